"""Faults in the file operations of one process: the k-th one fails, or the process is killed there.

`arm` changes the process that it is called in for good, so it belongs into a forked one; its own children are spared.
Operations of Python and of the standard library are caught where they raise an audit event (open, rename, link, remove,
mkdir, rmdir, listdir, scandir, flock) and, where they raise none, by replacing `os.fsync`, `io.FileIO` and `open` in
that process. Of native code, `safe_open` and `save_file` of safetensors are single operations; what they do inside
cannot be reached, nor can `torch.load`. Only paths under one folder count.
"""

from __future__ import annotations

import builtins
import enum
import errno
import io
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Kind(enum.Enum):
    """Kind of fault at an operation."""

    ENOSPC = "the disk is full, once"
    FULL = "the disk is full from then on"
    EDQUOT = "the quota is used up from then on"
    EIO = "an input/output error"
    KILL = "SIGKILL"
    TERM = "SIGTERM"
    SHORT = "a write takes only half, as it may"
    CLOCK = "the clock jumps by weeks or years, forth or back"
    ENOLCK = "the file system has no locks, ever: NFS without its lock service"
    ENOSYS = "the file system has no locks, ever: Lustre without -o flock"


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and the number of the file operation where it happens, from 1; 0 for none."""

    kind: Kind
    at: int


_NO_LOCKS = (Kind.ENOLCK, Kind.ENOSYS)
_FOREVER = (Kind.FULL, Kind.EDQUOT, *_NO_LOCKS)
_NEEDS_ROOM = frozenset({"open to write", "write", "mkdir", "fsync"})
_PAGE = 1 << 16


class Witness:
    """Memory shared with a forked process: its number of operations, and the operation that the fault struck."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PAGE)

    def note(self, number: int, what: str) -> None:
        """Record the operation that the fault struck."""
        text = f"{number} {what}".encode()[: _PAGE - 9]
        self._memory[: len(text) + 1] = text + b"\0"

    def count(self, number: int) -> None:
        """Record the number of operations so far."""
        self._memory[_PAGE - 8 :] = number.to_bytes(8, "little")

    def counted(self) -> int:
        """Return the number of operations so far."""
        return int.from_bytes(self._memory[_PAGE - 8 :], "little")

    def struck(self) -> str:
        """Return the operation that the fault struck, with its number; empty if it did not strike."""
        return self._memory[:].partition(b"\0")[0].decode(errors="replace")


class Injector:
    """Counts the file operations under a folder, and brings about the fault."""

    def __init__(self, fault: Fault, folder: Path, witness: Witness) -> None:
        self.fault, self._folder, self._witness = fault, f"{folder}/", witness
        self.count, self.clock = 0, 0.0
        self._is_inside, self._process = False, os.getpid()

    def operation(self, what: str, path: object, torn: Callable[[], object] | None = None) -> bool:
        """Count an operation; raise OSError, or kill the process, where it is the one. torn: does half of it first.

        Return whether it is to be done by half only.
        """
        place = self._place(path)
        if place is None or self._is_inside or os.getpid() != self._process:
            return False
        self._is_inside = True  # operations in this function are not the job's
        try:
            return self._strike(what, place, torn)
        finally:
            self._is_inside = False

    def _strike(self, what: str, place: str, torn: Callable[[], object] | None) -> bool:
        kind, at = self.fault.kind, self.fault.at
        if not _applies(kind, what):
            return False
        self.count += 1
        self._witness.count(self.count)
        if not at or self.count < at or (self.count > at and kind not in _FOREVER):
            return False
        if self.count == at:
            self._witness.note(self.count, f"{what} {place.removeprefix(self._folder)}")
        if kind is Kind.SHORT:
            return True
        if kind is Kind.CLOCK:
            self.clock += (-1) ** at * at * 1e6
            return False
        if torn is not None and kind is not Kind.TERM:
            torn()
        if kind in (Kind.KILL, Kind.TERM):
            os.kill(os.getpid(), signal.SIGKILL if kind is Kind.KILL else signal.SIGTERM)
            return False
        number = {Kind.FULL: errno.ENOSPC}.get(kind) or int(getattr(errno, kind.name))
        raise OSError(number, os.strerror(number), place)

    def _place(self, path: object) -> str | None:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115
            except OSError:
                return None
        if not isinstance(path, (str, bytes, os.PathLike)):
            return None
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (no Path: it is called from inside of it)
        return place if f"{place}/".startswith(self._folder) else None

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an event of the interpreter as an operation, where it is one."""
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if mode is None else mode[:1] in "wax"
            self.operation("open to write" if writes else "open to read", path)
        elif event in _EVENTS:
            self.operation(_EVENTS[event], arguments[0])


_EVENTS = {
    "os.rename": "rename",
    "os.link": "link",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.listdir": "list",
    "os.scandir": "list",
    "os.truncate": "write",
    "fcntl.flock": "lock",
}


def _applies(kind: Kind, what: str) -> bool:
    if kind in _NO_LOCKS:
        return what == "lock"
    if kind is Kind.SHORT:
        return what == "write"
    if kind in (Kind.ENOSPC, Kind.FULL, Kind.EDQUOT):
        return what in _NEEDS_ROOM
    return what != "lock"


def arm(fault: Fault, folder: Path, witness: Witness) -> None:
    """Inject a fault into this process, from now on. folder: the folder whose files count."""
    injector = Injector(fault, folder.resolve(), witness)
    sys.addaudithook(injector.audit)
    setattr(os, "fsync", _counted_fsync(injector))  # noqa: B010
    file_class, opened = _faulty_classes(injector)
    setattr(io, "FileIO", file_class)  # noqa: B010
    setattr(io, "open", opened)  # noqa: B010 (pathlib's)
    setattr(builtins, "open", opened)  # noqa: B010
    if fault.kind is Kind.CLOCK:
        _let_jump(injector)
    import safetensors
    import safetensors.numpy

    for module, name, what in ((safetensors, "safe_open", "open to read"), (safetensors.numpy, "save_file", "write")):
        setattr(module, name, _counted_native(getattr(module, name), what, injector))


def _let_jump(injector: Injector) -> None:
    now, local, formatted = time.time, time.localtime, time.strftime
    shifted = {
        "time": lambda: now() + injector.clock,
        "localtime": lambda seconds=None: local(now() + injector.clock if seconds is None else seconds),
        "strftime": lambda form, moment=None: formatted(form, moment or local(now() + injector.clock)),
    }
    for name, function in shifted.items():
        setattr(time, name, function)


def _counted_fsync(injector: Injector) -> Callable[[int], None]:
    plain = os.fsync

    def fsync(handle: int) -> None:
        injector.operation("fsync", handle)
        plain(handle)

    return fsync


def _faulty_classes(injector: Injector) -> tuple[type[io.FileIO], Callable[..., Any]]:
    plain_class, plain_open = io.FileIO, builtins.open

    class FaultyFile(plain_class):  # type: ignore[misc, valid-type]
        """A file that counts its reads and writes."""

        def write(self, data: Any) -> int:
            half = bytes(data)[: (len(bytes(data)) + 1) // 2]
            is_short = injector.operation("write", self.fileno(), lambda: plain_class.write(self, half))
            return int(super().write(half if is_short else data))

        def read(self, size: int | None = -1) -> bytes:
            injector.operation("read", self.fileno())
            return bytes(super().read(-1 if size is None else size))

        def readall(self) -> bytes:
            injector.operation("read", self.fileno())
            return bytes(super().readall())

        def readinto(self, buffer: Any) -> int:
            injector.operation("read", self.fileno())
            return int(super().readinto(buffer))

    def faulty_open(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if injector._place(file) is None or "+" in mode:
            return plain_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = FaultyFile(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return FaultyFile, faulty_open


def _counted_native(plain: Callable[..., Any], what: str, injector: Injector) -> Callable[..., Any]:
    from safetensors import SafetensorError

    def counted(*arguments: Any, **named: Any) -> Any:
        path = next((each for each in (*arguments, *named.values()) if isinstance(each, (str, os.PathLike))), None)
        try:
            injector.operation(what, path)
        except OSError as error:  # as it says it
            raise SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from None
        return plain(*arguments, **named)

    return counted
