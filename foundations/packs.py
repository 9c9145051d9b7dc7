"""Packs: uncompressed zip files in a folder `.packs`, whose members are read by paths that lead through them.

`<root>/.packs/<name>.zip/train_<digest>/replicate_1/main/metrics.csv` is a member of a pack. `foundations.files` reads
such a path like any other: a pack is asked only where the operating system finds a file in place of a folder.
A pack is never changed, only replaced as a whole. Members are stored, not compressed, so each is a range of bytes.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import zipfile

FOLDER = ".packs"
SUFFIX = ".zip"
_MEMBER = re.compile(r"(?:train|import)_[^/\0]+/replicate_\d{1,15}/(?:main|branch_[^/\0]+)/[^./\0][^/\0]*", re.ASCII)
_IN_PACK = re.compile(rf"(?P<pack>.*/{re.escape(FOLDER)}/[^/]+{re.escape(SUFFIX)})/(?P<name>.+)", re.DOTALL)
_LOCAL_HEADER, _LOCAL_SIGNATURE = 30, b"PK\x03\x04"
_CHUNK = 1 << 20
_KNOWN: dict[str, tuple[tuple[int, ...], Mapping[str, Member]]] = {}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a pack."""

    header: int
    """The place of its local header."""
    size: int
    crc: int
    changed: float
    """Time of its last change, to two seconds, in seconds since 1970."""


class Window(io.RawIOBase):
    """The bytes of a member, as a file."""

    def __init__(self, handle: int, start: int, size: int) -> None:
        """Take an open file, which is closed with the window, and a range of its bytes."""
        super().__init__()
        self._handle, self._start, self.size, self._at = handle, start, size, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview | bytearray) -> int:  # type: ignore[override]
        """Read the next bytes into a buffer; return their number."""
        data = os.pread(self._handle, min(len(buffer), self.size - self._at), self._start + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        """Return the bytes that are left."""
        parts = []
        while data := os.pread(self._handle, self.size - self._at, self._start + self._at):
            parts.append(data)
            self._at += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the pack's file."""
        if not self.closed:
            os.close(self._handle)
        super().close()


def member(path: Path | str) -> Member | None:
    """Return the member of a pack that a path names; None if there is none. Raises: OSError for a damaged pack."""
    parts = _IN_PACK.fullmatch(str(path))
    return members(parts["pack"]).get(parts["name"]) if parts else None


def names_inside(folder: Path | str) -> list[str]:
    """Return the names of the members in a folder inside a pack. Raises: OSError, also where the pack is gone."""
    parts = _IN_PACK.fullmatch(str(folder))
    begin = f"{parts['name']}/" if parts else ""
    return [name[len(begin) :] for name in members(parts["pack"]) if name.startswith(begin)] if parts else []


def is_inside(path: Path | str) -> bool:
    """Return whether a path leads through a pack, by its text alone."""
    return f"/{FOLDER}/" in str(path) and _IN_PACK.fullmatch(str(path)) is not None


def exists(path: Path | str) -> bool:
    """Return whether a file is there, or in a pack; False where a folder is closed to this user."""
    if os.path.exists(path):  # noqa: PTH110 (no error for a closed folder)
        return True
    with contextlib.suppress(OSError):
        return is_inside(path) and member(path) is not None
    return False


def names_in(folder: Path | str) -> list[str]:
    """Return the names of the files in a folder, also in one inside a pack; none where there is no such folder.

    Raises: OSError where it cannot be read.
    """
    try:
        return os.listdir(folder)  # noqa: PTH208 (called for each run of a listing)
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return names_inside(folder)


def time_of(path: Path | str) -> float:
    """Return when a file or folder, also a file in a pack, was changed last. Raises: OSError."""
    try:
        return os.stat(path).st_mtime  # noqa: PTH116 (called for each run of a listing)
    except NotADirectoryError:
        found = member(path)
        if found is None:
            raise
        return found.changed


def open_file(path: Path) -> IO[bytes] | Window:
    """Open a file for reading, also one in a pack. Raises: OSError."""
    return opened(path) if is_inside(path) else path.open("rb")


@contextlib.contextmanager
def as_plain_file(path: Path) -> Iterator[Path]:
    """Yield the path of a file with the same bytes for code that opens files itself: a copy of a file in a pack."""
    if not is_inside(path):
        yield path
        return
    import shutil
    import tempfile

    with opened(path) as source, tempfile.NamedTemporaryFile() as copy:
        shutil.copyfileobj(source, copy, _CHUNK)
        copy.flush()
        yield Path(copy.name)


def opened(path: Path | str) -> Window:
    """Open a member of a pack. Raises: FileNotFoundError, or OSError with EINVAL where the pack is damaged."""
    parts, found = _IN_PACK.fullmatch(str(path)), member(path)
    if parts is None or found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    handle = os.open(parts["pack"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        name = parts["name"].encode()
        header = os.pread(handle, _LOCAL_HEADER + len(name), found.header)
        length, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        if header[:4] != _LOCAL_SIGNATURE or length != len(name) or header[_LOCAL_HEADER:] != name:
            raise _damaged(parts["pack"])
        return Window(handle, found.header + _LOCAL_HEADER + length + extra, found.size)
    except BaseException:
        os.close(handle)
        raise


def has_its_checksum(path: Path | str) -> bool:
    """Return whether a member has the checksum that the pack states. Raises: OSError."""
    import zlib

    found, crc = member(path), 0
    with opened(path) as file:
        while data := file.read(_CHUNK):
            crc = zlib.crc32(data, crc)
    return found is not None and crc == found.crc


def members(pack: Path | str) -> Mapping[str, Member]:
    """Return the members of a pack by name. Raises: OSError, with EINVAL for anything but a pack."""
    status = os.stat(pack)  # noqa: PTH116 (for each member that is read)
    if not stat.S_ISREG(status.st_mode):
        raise _damaged(pack)
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    known = _KNOWN.get(str(pack))
    if known is None or known[0] != identity:
        known = _KNOWN[str(pack)] = identity, _read(pack, status.st_size)
    return known[1]


def _read(pack: Path | str, size: int) -> Mapping[str, Member]:
    import calendar
    import struct
    import zipfile

    found: dict[str, Member] = {}
    try:
        with zipfile.ZipFile(pack) as archive:
            for info in archive.infolist():
                if info.filename in found or not _is_ours(info, size):
                    raise _damaged(pack)
                changed = float(calendar.timegm((*info.date_time, 0, 0, 0)))
                found[info.filename] = Member(info.header_offset, info.file_size, info.CRC, changed)
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, EOFError, OverflowError) as error:
        raise _damaged(pack) from error
    return found


def _is_ours(info: zipfile.ZipInfo, size: int) -> bool:
    is_stored = info.compress_type == 0 and info.file_size == info.compress_size and not info.flag_bits & 1
    is_within = info.header_offset >= 0 and info.header_offset + _LOCAL_HEADER + info.file_size <= size
    return is_stored and is_within and _MEMBER.fullmatch(info.orig_filename) is not None and info.filename.isascii()


def _damaged(pack: Path | str) -> OSError:
    return OSError(errno.EINVAL, "it is not a pack, or is damaged", str(pack))
