"""One process at a time: locks that a killed process cannot leave behind.

Locks save work. On some shared file systems they keep nobody out: `flock` succeeds for every process. So nothing is
wrong if two processes hold a lock (`foundations.storage.generations`), but it is noticed: the holder's file names
another process that is alive.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.errors import Busy
from foundations.files import make_folder, read_file

if TYPE_CHECKING:
    from filelock import FileLock

    from foundations.storage.read_only_lock import ReadOnlyLock

_NUMBERS = ("pid", "since", "at", "speed")
"""The numeric facts about a holder."""
_SECONDS_OF_SILENCE = 60.0
"""A process that has not noted its progress for this long counts as ended."""
_IDENTITY = ("pid", "host", "started")
_SECONDS_OF_WATCHING, _LOOKS = 3.0, 12
_RECENT_SECONDS = 600.0


def this_process() -> dict[str, Any]:
    """Return facts that tell this process from others on any machine: pid, host, and the moment of its start."""
    return {"pid": os.getpid(), "host": _host(), "started": _start_of(os.getpid())}


def is_same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two processes, as `this_process` describes them, are one."""
    return all(first.get(name) == second.get(name) for name in _IDENTITY)


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Return whether a process, as `this_process` describes it, runs; None if it is on another machine."""
    if process.get("host") != _host() or type(process.get("pid")) is not int:
        return None
    started = _start_of(process["pid"])
    return started != "" and process.get("started") == started


def _host() -> str:
    import socket

    return socket.gethostname()


def _start_of(pid: int) -> str:
    """Return the moment when a process of this machine was started; empty if there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        is_dead = fields[0] in "ZX"
        return "" if is_dead else f"{_boot()} {fields[19]}"
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "unknown"
    except (OSError, OverflowError):
        return ""
    return "unknown"


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


class Holder:
    """Facts about the process that holds a lock, in a file beside the lock that `watch` reads."""

    def __init__(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Write the process, its machine, the time and further facts. path: the lock's path."""
        self._path, self._part = path.with_suffix(".holder"), path.with_suffix(".holder.part")
        with contextlib.suppress(OSError):  # a killed process's, which may be another user's
            self._part.unlink()
        self._facts: dict[str, Any] = {**this_process(), "since": time.time()}
        self.former = read_holder(path)
        """Facts about the process that the file named before: it was killed, or the lock does not keep it out."""
        self._has_looked = False
        self._found: dict[str, Any] | None = None
        before = _written_at(self._path)
        self.note(facts or {})
        ages = [time.time() - float((self.former or {}).get("at", 0)), _written_at(self._path) - before]
        self._is_recent = any(abs(age) < _RECENT_SECONDS for age in ages)

    def competitor(self) -> dict[str, Any] | None:
        """Return facts about another process that holds the lock as well; None if there is none. Looks once.

        Of a process on another machine, which wrote its file less than 10 minutes ago by this machine's clock or by
        that of the file system, the file is watched for some seconds.
        """
        if not self._has_looked:
            self._has_looked, self._found = True, self._competitor()
        return self._found

    def _competitor(self) -> dict[str, Any] | None:
        if self.former is None or is_same(self.former, self._facts):
            return None
        alive = is_alive(self.former)
        if alive is None and self._is_recent:
            for _ in range(_LOOKS):
                time.sleep(_SECONDS_OF_WATCHING / _LOOKS)
                found = read_holder(self._path)
                if found is not None and not is_same(found, self._facts):
                    return found
        return self.former if alive else None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add facts to the file, with the time. It does not flush the disk, since it is called often."""
        self._facts |= facts
        part = self._part
        with contextlib.suppress(OSError):  # progress is not worth a failed job
            part.write_text(json.dumps({**self._facts, "at": time.time()}))
            part.replace(self._path)

    def remove(self) -> None:
        """Delete the holder's file and its temporary file, unless another process holds the lock as well."""
        if not is_same(read_holder(self._path) or self._facts, self._facts):
            return
        for path in (self._path, self._part):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _written_at(path: Path) -> float:
    """Return when a file was written, by the clock of the file system; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def read_holder(path: Path) -> dict[str, Any] | None:
    """Return the facts about the process that holds (or, if it was killed, held) the lock at `path`, or None."""
    try:
        facts = json.loads(read_file(path.with_suffix(".holder")))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or not all(_is_number(facts.get(name, 0)) for name in _NUMBERS):
        return None
    return facts


def used_states(folder: Path) -> set[str]:
    """Return the states that holders of the locks in a folder note that they use, as `<location>/<file>`.

    Holders that were killed count: whoever takes their lock next removes their files.
    """
    found: set[str] = set()
    for path in folder.glob("*.holder"):
        uses = (read_holder(path) or {}).get("uses")
        found.update(each for each in (uses if isinstance(uses, list) else []) if isinstance(each, str))
    return found


@contextlib.contextmanager
def lock(
    path: Path,
    name: str,
    say: Callable[[str], None],
    *,
    wait: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Holder]:
    """Hold the lock at `path` inside the block.

    If another process holds it, report that once (which process, on which machine, since when) and wait. The lock is
    the operating system's, so it ends with its process. name: what is locked, for the report.
    wait: if not, raise Busy where another process holds it. facts: for the file beside the lock.
    Raises: OSError, ENOLCK or ENOSYS where the file system has no locks: nothing else keeps two processes apart.
    """
    from filelock import Timeout

    make_folder(path.parent)
    file_lock = _file_lock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise Busy(f"{name} is in use by {_describe(path)}.") from None
        say(f"Waiting for {_describe(path)}, which works on {name}.")
        file_lock.acquire()
    holder = Holder(path, facts)
    try:
        yield holder
    finally:
        holder.remove()
        file_lock.release()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at `path` now."""
    if not os.path.exists(path.with_suffix(".holder")):  # noqa: PTH110 (no error where the folder is closed)
        return False
    from filelock import Timeout

    file_lock = _file_lock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # another user's, or on a read-only file system: rely on the holder's file
        at = (read_holder(path) or {}).get("at")
        return at is not None and time.time() - at < _SECONDS_OF_SILENCE
    file_lock.release()
    return bool(is_alive(read_holder(path) or {}))  # the lock may keep nobody out


def remove_idle(path: Path) -> bool:
    """Remove the file of a lock that nobody holds, with its holder's; return whether it is gone.

    A process that waits for the lock meanwhile notices that its file is gone, and makes it again.
    """
    with contextlib.suppress(Busy, OSError), lock(path, path.stem, lambda _line: None, wait=False):
        path.unlink(missing_ok=True)
        return True
    return False


def _file_lock(path: Path) -> FileLock | ReadOnlyLock:
    if os.access(path, os.R_OK) and not os.access(path, os.W_OK):
        from foundations.storage.read_only_lock import ReadOnlyLock

        return ReadOnlyLock(path)
    from filelock import FileLock

    # Its fallback where there are no locks, a plain file, stays when its process is killed.
    return FileLock(path, fallback_to_soft=False)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1 << 53


def describe(process: Mapping[str, Any] | None) -> str:
    """Return the name of a process for messages."""
    return f"process {process.get('pid')} on {process.get('host')}" if process else "another process"


def _describe(path: Path) -> str:
    for _ in range(_LOOKS):  # it may have taken the lock at this moment
        facts = read_holder(path) or {}
        if facts:
            break
        time.sleep(_SECONDS_OF_WATCHING / _LOOKS / 10)
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(facts["since"]))
        return f"process {facts['pid']} on {facts['host']} (since {since})"
    except (KeyError, TypeError, ValueError, OverflowError):
        return "another process"
