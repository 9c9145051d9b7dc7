"""One process at a time: locks that a killed process cannot leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from foundations.errors import Busy
from foundations.files import read_file
from foundations.storage.read_only_lock import ReadOnlyLock

_NUMBERS = ("pid", "since", "at", "speed")
"""The numeric facts about a holder."""
_SECONDS_OF_SILENCE = 60.0
"""A process that has not noted its progress for this long counts as ended."""


class Holder:
    """Facts about the process that holds a lock, in a file beside the lock that `watch` reads."""

    def __init__(self, path: Path) -> None:
        """Write the process, its machine and the time. path: the lock's path."""
        self._path, self._part = path.with_suffix(".holder"), path.with_suffix(".holder.part")
        with contextlib.suppress(OSError):  # a killed process's, which may be another user's
            self._part.unlink()
        self._facts: dict[str, Any] = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        self.note({})

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the file, with the time. It does not flush the disk, since it is called often."""
        self._facts |= facts
        part = self._part
        with contextlib.suppress(OSError):  # progress is not worth a failed job
            part.write_text(json.dumps({**self._facts, "at": time.time()}))
            part.replace(self._path)

    def remove(self) -> None:
        """Delete the holder's file and its temporary file."""
        for path in (self._path, self._part):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def read_holder(path: Path) -> dict[str, Any] | None:
    """Return the facts about the process that holds (or, if it was killed, held) the lock at `path`, or None."""
    try:
        facts = json.loads(read_file(path.with_suffix(".holder")))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or not all(_is_number(facts.get(name, 0)) for name in _NUMBERS):
        return None
    return facts


@contextlib.contextmanager
def lock(path: Path, name: str, say: Callable[[str], None], *, wait: bool = True) -> Iterator[Holder]:
    """Hold the lock at `path` inside the block.

    If another process holds it, report that once (which process, on which machine, since when) and wait. The lock is
    the operating system's, so it ends with its process. name: what is locked, for the report.
    wait: if not, raise Busy where another process holds it.
    Raises: OSError, ENOLCK or ENOSYS where the file system has no locks: nothing else keeps two processes apart.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = _file_lock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise Busy(f"{name} is in use by {_describe(path)}.") from None
        say(f"Waiting for {_describe(path)}, which works on {name}.")
        file_lock.acquire()
    holder = Holder(path)
    try:
        yield holder
    finally:
        holder.remove()
        file_lock.release()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at `path` now."""
    if not os.path.exists(path.with_suffix(".holder")):  # noqa: PTH110 (no error where the folder is closed)
        return False
    file_lock = _file_lock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # another user's, or on a read-only file system: rely on the holder's file
        at = (read_holder(path) or {}).get("at")
        return at is not None and time.time() - at < _SECONDS_OF_SILENCE
    file_lock.release()
    return False


def _file_lock(path: Path) -> FileLock | ReadOnlyLock:
    if os.access(path, os.R_OK) and not os.access(path, os.W_OK):
        return ReadOnlyLock(path)
    # Its fallback where there are no locks, a plain file, stays when its process is killed.
    return FileLock(path, fallback_to_soft=False)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1 << 53


def _describe(path: Path) -> str:
    try:
        facts = read_holder(path) or {}
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["since"]))
        return f"process {facts['pid']} on {facts['host']} (since {since})"
    except (KeyError, TypeError, ValueError, OverflowError):
        return "another process"
