"""The files in a folder, a tar archive or a zip archive, read through one interface and without unpacking."""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from datasets.formats.source_files import FilePart, damaged
from foundations.access import is_denied, reason
from foundations.errors import EnvironmentFailure


def members(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a folder or an archive.

    Names begin with the folder's own, as they do in an archive of it. wanted: chooses files by their names.
    Raises: DamagedError if the archive or a file is truncated.
    """
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path.parent).as_posix()
            if file.is_file() and wanted(name):
                yield name, _read(file)
        return
    with _whole(path):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist() if wanted(name))
        else:
            with tarfile.open(path) as tar:
                for item in tar:
                    if item.isfile() and wanted(item.name) and (file_in_tar := tar.extractfile(item)) is not None:
                        yield item.name, file_in_tar.read()


def member(path: Path, name: str) -> bytes:
    """Return the content of one file of a folder or an archive, by its name as in `members`.

    Raises: DamagedError if it is missing or truncated.
    """
    if path.is_dir():
        return _read(path.parent / name)
    for _, content in members(path, name.__eq__):
        return content
    raise damaged(path, f"{name} is missing")


def place_of(path: Path, name: str) -> Path:
    """Return the path, for errors, of a file of a folder or an archive, by its name as in `members`."""
    return (path.parent if path.is_dir() else path) / name


def tar_members(archive: Path, below: Path, offset: int = 0) -> list[FilePart]:
    """Return the files in a tar archive that begins at an offset of a file, in the order of their names.

    below: the folder to which the path of the archive is relative. Raises: DamagedError if the archive is truncated.
    """
    file = archive.relative_to(below).as_posix()
    with _whole(archive), archive.open("rb") as stream:
        stream.seek(offset)
        with tarfile.open(fileobj=stream, mode="r:") as items:
            # tarfile's offsets are those of the whole stream, wherever the archive begins in it
            found = [FilePart(item.name, file, item.offset_data, item.size) for item in items if item.isfile()]
    if found and found[-1].offset + found[-1].size > archive.stat().st_size:
        raise damaged(archive, "it ends inside a file")
    return sorted(found, key=lambda part: part.name)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        if is_denied(error):
            raise EnvironmentFailure(f"Cannot read {file}: {reason(error)}.") from error
        raise damaged(file, f"it cannot be read ({error.strerror})") from error


@contextlib.contextmanager
def _whole(archive: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EnvironmentFailure(f"Cannot read {archive}: {reason(error, archive)}.") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
        raise damaged(archive, f"it is not a whole archive ({error})") from error
