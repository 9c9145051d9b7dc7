"""Files that appear whole or not at all, also in folders that several machines share.

A shared file system may report ESTALE for a file that another machine has replaced, show a new name only after some
seconds, and repeat a request whose reply was lost, which then finds the work done. The functions here survive this. A
file or folder is published by one operation that fails if its target is there; nothing looks first and renames then.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from foundations import packs
from foundations.access import is_denied, reason
from foundations.errors import ClosedError, EnvironmentFailure
from foundations.parts import part_of, sweep_parts

_CHUNK = 1 << 16
_NO_LOCKS = (
    "Its file system has no locks, which keep two processes from the same work. Choose a folder on one that has: a "
    "local disk, NFS with its lock service, Lustre mounted with -o flock."
)
_QUOTA = (
    "Free some room of your quota, which may count files as well as bytes, and run the same command again; it "
    "continues from where it stopped."
)
_MOST_BYTES = 1 << 28
"""The size limit of a text file that is read whole."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
"""Errors of file systems without hard links, such as some in user space."""
_PAUSES = (0.0, 0.01, 0.1, 0.5)
"""Seconds to wait before each repetition after ESTALE."""
_LOOKS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between looks for a name that another machine has made, and this one does not see yet."""
Result = TypeVar("Result")
Flushes = Literal["all", "content", "nothing"]
"""Part of a written file that is flushed to the disk: its content and its name, so that it survives a power cut; only
its content, so that a power cut leaves the former file, or none; or nothing, for a file that is of no use after one."""


def looks() -> Iterator[None]:
    """Yield a few times within some seconds, to look for a name that this machine may see late."""
    yield
    for pause in _LOOKS:
        time.sleep(pause)
        yield


def despite_stale(work: Callable[[], Result]) -> Result:
    """Return `work()`, repeated a few times where it fails with ESTALE. Raises: OSError."""
    for pause in _PAUSES:
        try:
            return work()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            time.sleep(pause)
    return work()


@contextlib.contextmanager
def explain_os_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into an EnvironmentFailure with advice, or into ClosedError for a permission."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "Free some room there and run the same command again; it continues from where it stopped.",
            errno.EDQUOT: _QUOTA,
            errno.ENOENT: "Check the path.",
            errno.ENOLCK: _NO_LOCKS,
            errno.ENOSYS: _NO_LOCKS,
            errno.EOPNOTSUPP: _NO_LOCKS,
        }.get(error.errno or 0, "Choose a folder that can be written.")
        said = reason(error, path, writes=not doing.startswith("read"))
        advice = "" if is_denied(error) and said != error.strerror else f" {advice}"  # it names the folder to open
        kind = ClosedError if is_denied(error) or error.errno == errno.EROFS else EnvironmentFailure
        raise kind(f"Cannot {doing} {path}: {said}.{advice}") from error


@contextlib.contextmanager
def replacing(path: Path, *, flushes: Flushes = "all") -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` when the block ends: readers see the whole new file or none of it.

    The file is flushed to the disk first. Nothing is left of it where the block raises.
    flushes: see `Flushes`. If nothing is flushed, temporary files that killed writers left are not looked for: such
    files are in folders whose owners remove them, and looking takes longer than writing, in a folder with many files.
    """
    if flushes != "nothing":
        sweep_parts(path.parent, of=path.name)
    part = part_of(path)
    try:
        yield part
        with part.open("rb") as file:
            if flushes != "nothing":
                os.fsync(file.fileno())
            written = os.fstat(file.fileno())
        name_part(part, path, written)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one that matters
            part.unlink(missing_ok=True)
        raise
    if flushes == "all":
        _flush_folder(path.parent)


def name_part(part: Path, path: Path, written: os.stat_result) -> None:
    """Rename a temporary file, which has a status, to the name that it is for. Raises: OSError."""
    try:
        part.replace(path)
    except FileNotFoundError:
        if not os.path.samestat(written, path.stat()):  # the reply to the first request may have been lost
            raise


def flush_together(paths: Sequence[Path]) -> list[os.stat_result]:
    """Flush the contents of files, all at the same time; return the status of each. Raises: OSError.

    A disk that writes its journal for one of them does so for all that wait, so this takes as long as one.
    """
    errors: list[OSError] = []

    def flush(handle: int) -> None:
        try:
            os.fsync(handle)
        except OSError as error:
            errors.append(error)

    with contextlib.ExitStack() as held:
        handles = [held.enter_context(path.open("rb")).fileno() for path in paths]
        threads = [threading.Thread(target=flush, args=(handle,)) for handle in handles[1:]]
        try:
            for thread in threads:
                thread.start()
            for handle in handles[:1]:
                flush(handle)
        finally:
            for thread in threads:
                if thread.ident is not None:  # started
                    thread.join()
        if errors:
            raise errors[0]
        return [os.fstat(handle) for handle in handles]


def is_there(path: Path | str) -> bool:
    """Return whether anything has a name, be it a broken link; False where that cannot be seen."""
    try:
        despite_stale(lambda: os.lstat(path))
    except OSError:
        return False
    return True


def is_folder(path: Path | str) -> bool:
    """Return whether a path leads to a folder; False where that cannot be seen."""
    try:
        return stat.S_ISDIR(despite_stale(lambda: os.stat(path)).st_mode)  # noqa: PTH116
    except OSError:
        return False


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there, seen by this machine or not yet. Raises: OSError."""
    try:
        os.mkdir(path)  # noqa: PTH102
    except FileExistsError:
        if _is_no_folder(path):
            raise
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102


def _is_no_folder(path: Path) -> bool:
    with contextlib.suppress(OSError):  # it may not be seen yet, or be gone again
        return not stat.S_ISDIR(despite_stale(lambda: os.stat(path)).st_mode)  # noqa: PTH116
    return False


def write_atomically(path: Path, data: bytes, *, flushes: Flushes = "all") -> None:
    """Write a file whole or not at all (see `replacing`). Raises: EnvironmentFailure where it cannot be written."""
    with explain_os_errors("write", path):
        make_folder(path.parent)
        replace_file(path, data, flushes=flushes)


def replace_file(path: Path, data: bytes, *, flushes: Flushes = "all") -> None:
    """Write a file whole or not at all in a folder that is there (see `replacing`). Raises: OSError."""

    def write() -> None:
        with replacing(path, flushes=flushes) as part:
            part.write_bytes(data)

    despite_stale(write)


def create_file(path: Path, data: bytes) -> None:
    """Write a file whole, in a folder that is there. Raises: FileExistsError where there is one; OSError."""

    def create() -> None:
        sweep_parts(path.parent, of=path.name)
        part = part_of(path)
        try:
            part.write_bytes(data)
            publish_file(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    despite_stale(create)  # another machine may have removed the part as a leftover


def publish_file(part: Path, path: Path) -> None:
    """Give a finished file the name `path`, by a hard link, and remove the name `part`.

    Raises: FileExistsError where another file has the name `path`, which stays as it is; OSError.
    """
    with part.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(part, path)
    except FileExistsError:
        if not _is_same(part, path):  # the reply to the first request may have been lost
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy_exclusively(part, path)
    with contextlib.suppress(OSError):  # the file has its name
        part.unlink(missing_ok=True)
    _flush_folder(path.parent)


def publish_folder(working: Path, final: Path) -> None:
    """Rename a finished folder to a name that is not there, or is an empty folder.

    Raises: FileExistsError where something has the name `final`, which stays as it is; FileNotFoundError where there is
    no folder `working`: another process may have renamed it, or this one, if the reply was lost; OSError.
    """
    _flush_folder(working)
    _rename_folder(working, final)
    _flush_folder(final.parent)


def claim_folder(old: Path, new: Path) -> bool:
    """Rename a folder to a name that only this process uses; return whether this process has done it.

    Of several processes that claim a folder, only one renames it. Raises: OSError.
    """
    try:
        _rename_folder(old, new)
    except FileNotFoundError:
        return is_there(new)  # the reply to the first request may have been lost
    return True


def refresh_folder(folder: Path) -> None:
    """Change a folder, so that this machine forgets what it remembers about its names. Raises: OSError."""
    probe = part_of(folder / "probe")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    probe.unlink(missing_ok=True)


def _rename_folder(old: Path, new: Path) -> None:
    try:
        os.rename(old, new)  # noqa: PTH104 (names of folders, not files)
    except OSError as error:
        number = {errno.ENOTEMPTY: errno.EEXIST, errno.ESTALE: errno.ENOENT}.get(error.errno or 0)
        if error.errno == errno.ENOTDIR and is_there(new):
            number = errno.EEXIST
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(new if number == errno.EEXIST else old)) from error


def _is_same(first: Path, second: Path) -> bool:
    with contextlib.suppress(OSError):
        return despite_stale(lambda: os.path.samestat(first.stat(), second.stat()))
    return False


def _copy_exclusively(part: Path, path: Path) -> None:
    import shutil

    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file, part.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 22)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def append(path: Path, data: bytes) -> None:
    """Add bytes to the end of a file, or begin it. Raises: OSError, also for a link or a FIFO.

    Another user's file that may not be written is replaced, where its folder may be: umasks differ.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o666), "ab") as file:  # noqa: PTH123
            file.write(data)
    except PermissionError:
        if not path.is_file():
            raise
        former = read_file(path)
        with replacing(path) as part:
            part.write_bytes(former + data)


def remove_empty(folder: Path, above: int) -> None:
    """Remove a folder and a number of those above it, as far as they are there and empty."""
    for each in (folder, *folder.parents[:above]):
        with contextlib.suppress(OSError):
            each.rmdir()


def read_file(path: Path | str) -> bytes:
    """Return the content of a file, of /dev/null as well.

    Raises: OSError for anything but a file, such as a FIFO, which would block, and for more than 256 MiB.
    """
    return despite_stale(lambda: _content(path))


def _content(path: Path | str) -> bytes:
    with _opened(path, allow=stat.S_ISCHR) as file:
        if isinstance(file, packs.Window):
            if file.size <= _MOST_BYTES:
                return file.read()
            raise OSError(errno.EFBIG, f"it has more than {_MOST_BYTES >> 20} MiB", str(path))
        found = os.fstat(file.fileno())
        if found.st_size <= _MOST_BYTES:
            return file.read() if stat.S_ISREG(found.st_mode) else file.read(_CHUNK) or b""
    raise OSError(errno.EFBIG, f"it has more than {_MOST_BYTES >> 20} MiB", str(path))


def sha256_of_file(path: Path | str) -> str:
    """Return the SHA-256 of a file as 64 hex digits. Raises: OSError for anything but a regular file."""

    def digest() -> str:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return despite_stale(digest)


def check_regular(path: Path) -> None:
    """Raise OSError for anything but a regular file or a link to one. Files in packs are regular ones."""
    if packs.is_inside(path) and packs.member(path) is not None:
        return
    mode = despite_stale(path.stat).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def check_readable(path: Path) -> None:
    """Open a file and close it: libraries report a missing permission as damage. Raises: OSError, as `read_file`."""
    _opened(path).close()


def _opened(path: Path | str, allow: Callable[[int], bool] = stat.S_ISREG) -> io.FileIO | packs.Window:
    # Without O_NONBLOCK, opening a FIFO blocks until a process opens it for writing.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except NotADirectoryError:
        if not packs.is_inside(path):
            raise
        return packs.opened(path)
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) or allow(mode):
        # Unbuffered: half the system calls. Listing thousands of runs waits for this.
        return io.FileIO(handle, "rb")
    os.close(handle)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the file system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
