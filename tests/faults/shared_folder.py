"""A simulated shared file system, seeded, for processes that are threads of which one runs at a time.

The files are real ones. Between a process and its files, functions of `os` and `io` are replaced: at each operation,
the schedule picks the process that goes on, and time passes. A machine sees a name that another one has made only after
some seconds, gets ESTALE for what another one has removed or replaced, lists names in any order, and sometimes loses
the reply to a request that is then repeated, and fails. Each machine's clock is wrong by minutes. A process may be
killed at any operation: none of its later operations happens. Changing a folder lets the machine see all its names, as
NFS promises.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from filelock import Timeout

from foundations.storage import generations, locks, working_run

_LATE, _LATEST = 0.3, 3.0
"""The share of names that are seen late, and the maximum delay in seconds."""
_LOST = 0.02
"""The share of replies that are lost."""
_SKEW = 900.0
_MOST = 200_000
"""Operations after which a process that has not ended counts as hanging."""
_REAL = {name: getattr(os, name) for name in ("stat", "lstat", "open", "listdir", "access", "rename", "link", "mkdir")}
_REAL |= {name: getattr(os, name) for name in ("rmdir", "unlink", "fsync", "urandom", "scandir")}
_REAL_OPEN, _REAL_TIME = io.open, time.time


class Killed(BaseException):
    """The end of a killed process."""


@dataclass(eq=False)
class Process:
    """A simulated process."""

    number: int
    host: str
    work: Callable[[], None]
    dies_at: int = 0
    """The number of the operation at which it is killed; 0 for none."""
    operations: int = 0
    wakes: float = 0.0
    is_dead: bool = False
    error: BaseException | None = None
    then: Callable[[], None] | None = None
    """Called when it was killed."""
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def facts(self) -> dict[str, Any]:
        return {"pid": self.number, "host": self.host, "started": f"life {self.number}"}


class Simulation:
    """The server, the machines and the schedule of one seed."""

    def __init__(self, seed: int, root: Path, *, locks_lie: bool) -> None:
        self.drawn, self.root, self.locks_lie = random.Random(seed), str(root), locks_lie
        self.now = 0.0
        self.processes: list[Process] = []
        self.changed: Callable[[str], None] = lambda _: None
        """Called after each change, with its path."""
        self._made: dict[str, tuple[str, float]] = {}
        """By name: the machine that made it last, and when."""
        self._gone: dict[str, str] = {}
        """By name: the machine that removed or replaced it last."""
        self._seen_at: dict[tuple[str, str, float], float] = {}
        self._skews: dict[str, float] = {}
        self._held: dict[str, Process] = {}
        self._current: Process | None = None
        self._ended = threading.Semaphore(0)
        self._is_watching = False

    # The schedule.

    def start(self, process: Process) -> None:
        """Add a process; `run` lets it work."""
        self.processes.append(process)
        process.wakes = self.now + self.drawn.uniform(0, 3)
        self._skews.setdefault(process.host, self.drawn.uniform(-_SKEW, _SKEW))

    def run(self) -> None:
        """Let all processes work until each has ended, also those that are started meanwhile."""
        with self._patched():
            begun: set[Process] = set()
            while waiting := [each for each in self.processes if not each.is_dead]:
                ready = [each for each in waiting if each.wakes <= self.now]
                if not ready:
                    self.now = min(each.wakes for each in waiting)
                    continue
                chosen = self._current = self.drawn.choice(ready)
                if chosen not in begun:
                    begun.add(chosen)
                    threading.Thread(target=self._live, args=(chosen,), daemon=True).start()
                else:
                    chosen.turn.release()
                self._ended.acquire()

    def _live(self, process: Process) -> None:
        try:
            process.work()
        except Killed:
            pass
        except BaseException as error:
            process.error = error
        process.is_dead = True
        for name in [name for name, holder in self._held.items() if holder is process]:
            del self._held[name]
        if process.then is not None and process.error is None:
            process.then()
        self._ended.release()

    def _pause(self, seconds: float = 0.0) -> Process:
        """Let other processes go on."""
        process = self._current
        assert process is not None
        if process.is_dead:
            raise Killed
        process.wakes = self.now + seconds
        self.now += self.drawn.uniform(0, 0.02)
        self._ended.release()
        process.turn.acquire()
        process.operations += 1
        if process.operations > _MOST:
            raise AssertionError("a process hangs")
        if process.dies_at and process.operations >= process.dies_at:
            process.is_dead = True
            raise Killed
        return process

    # What a machine sees.

    def _sees(self, host: str, path: str) -> bool:
        while len(path) > len(self.root):
            made = self._made.get(path)
            if made is not None and made[0] != host:
                key = (host, path, made[1])
                if key not in self._seen_at:
                    late = self.drawn.random() < _LATE
                    self._seen_at[key] = made[1] + (self.drawn.uniform(0, _LATEST) if late else 0)
                if self.now < self._seen_at[key]:
                    return False
            path = path.rpartition("/")[0]
        return True

    def _look(self, path: object) -> str:
        """Let time pass, and return the path; raise OSError where the machine does not see it."""
        place, process = os.fspath(path), self._pause()  # type: ignore[call-overload]
        if not self._sees(process.host, place):
            raise _error(errno.ENOENT, place)
        gone = self._gone.get(place)
        if gone is not None and gone != process.host and self.drawn.random() < 0.3:
            del self._gone[place]
            raise _error(errno.ESTALE, place)
        return str(place)

    def _change(self, path: object, work: Callable[[], Any], repeated: int, *removed: object) -> Any:
        """Change a name, at once for the server; lose the reply sometimes. repeated: the error of a second request."""
        place, process = str(os.fspath(path)), self._pause()  # type: ignore[call-overload]
        gone = [*map(str, removed), *([place] if _exists(place) else [])]
        found = work()
        if place not in map(str, removed):
            self._made[place] = (process.host, self.now)
        self._reveal(process.host, place)
        self._gone |= dict.fromkeys(gone, process.host)
        self._forget(process.host, place.rpartition("/")[0])
        self._tell(place)
        if repeated and self.drawn.random() < _LOST:
            raise _error(repeated, place)
        return found

    def _reveal(self, host: str, place: str) -> None:
        """Let a machine see the folders in which it has changed something."""
        while len(place) > len(self.root):
            if place in self._made:
                self._seen_at[host, place, self._made[place][1]] = self.now
            place = place.rpartition("/")[0]

    def _forget(self, host: str, folder: str) -> None:
        """Let a machine see all names of a folder that it has changed."""
        for name in [name for name in self._made if name.rpartition("/")[0] == folder]:
            self._seen_at[host, name, self._made[name][1]] = self.now

    def _tell(self, place: str) -> None:
        self._is_watching = True
        try:
            self.changed(place)
        finally:
            self._is_watching = False

    # The replaced functions.

    def _is_ours(self, path: object) -> bool:
        if self._is_watching or self._current is None or not isinstance(path, (str, os.PathLike)):
            return False
        return threading.current_thread() is not threading.main_thread() and str(path).startswith(self.root)

    def _reading(self, name: str) -> Callable[..., Any]:
        def read(path: Any, *rest: Any, **named: Any) -> Any:
            return _REAL[name](self._look(path) if self._is_ours(path) else path, *rest, **named)

        return read

    def _access(self, path: Any, mode: int, **named: Any) -> bool:
        try:
            return bool(_REAL["access"](self._look(path) if self._is_ours(path) else path, mode, **named))
        except OSError:
            return False

    def _list(self, path: Any = ".") -> list[str]:
        if not self._is_ours(path):
            return list(_REAL["listdir"](path))
        host = self._current.host if self._current else ""
        names = [each for each in _REAL["listdir"](self._look(path)) if self._sees(host, f"{path}/{each}")]
        self.drawn.shuffle(names)
        return names

    def _scan(self, path: Any = ".") -> _Scanned:
        names = set(self._list(path)) if self._is_ours(path) else None
        with _REAL["scandir"](path) as found:
            return _Scanned([each for each in found if names is None or each.name in names])

    def _open(self, path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
        if not self._is_ours(path) or named:
            return int(_REAL["open"](path, flags, mode, **named))
        if flags & os.O_CREAT:
            return int(self._change(path, lambda: _REAL["open"](path, flags, mode), 0))
        return int(_REAL["open"](self._look(path), flags, mode))

    def _file(self, path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if self._is_ours(path):
            if mode[:1] in "wxa":
                return self._change(path, lambda: _REAL_OPEN(path, mode, *rest, **named), 0)
            path = self._look(path)
        return _REAL_OPEN(path, mode, *rest, **named)

    def _rename(self, old: Any, new: Any, **named: Any) -> None:
        if not self._is_ours(old):
            return _REAL["rename"](old, new, **named)
        self._change(new, lambda: _REAL["rename"](old, new), errno.ENOENT, old)
        return None

    def _link(self, old: Any, new: Any, **named: Any) -> None:
        if not self._is_ours(old):
            return _REAL["link"](old, new, **named)
        self._change(new, lambda: _REAL["link"](old, new), errno.EEXIST)
        return None

    def _mkdir(self, path: Any, *rest: Any, **named: Any) -> None:
        if not self._is_ours(path):
            return _REAL["mkdir"](path, *rest, **named)
        self._change(path, lambda: _REAL["mkdir"](path, *rest), errno.EEXIST)
        return None

    def _removing(self, name: str) -> Callable[..., None]:
        def remove(path: Any, **named: Any) -> None:
            if not self._is_ours(path):
                return _REAL[name](path, **named)
            self._change(path, lambda: _REAL[name](path), errno.ENOENT, path)
            return None

        return remove

    def _rmtree(self, path: Any, ignore_errors: bool = False) -> None:
        try:
            for name in self._list(path):
                inner = Path(path, name)
                if inner.is_dir():
                    self._rmtree(inner, ignore_errors)
                else:
                    inner.unlink()
            Path(path).rmdir()
        except OSError:
            if not ignore_errors:
                raise

    def _time(self) -> float:
        skew = self._skews[self._current.host] if self._current else 0.0
        return 1.7e9 + self.now + skew

    def _sleep(self, seconds: float) -> None:
        self._pause(seconds)

    def _lock(self, path: Path) -> _Lock:
        return _Lock(self, str(path))

    def _alive(self, process: Any) -> bool | None:
        if self._current is None or process.get("host") != self._current.host:
            return None
        return any(each.number == process.get("pid") and not each.is_dead for each in self.processes)

    def _facts(self) -> dict[str, Any]:
        assert self._current is not None
        return self._current.facts()

    @contextmanager
    def _patched(self) -> Iterator[None]:
        new: list[tuple[Any, str, Any]] = [(os, name, self._reading(name)) for name in ("stat", "lstat")]
        new += [(os, "access", self._access), (os, "listdir", self._list), (os, "scandir", self._scan)]
        new += [(os, "open", self._open), (io, "open", self._file), (builtins, "open", self._file)]
        new += [(os, "rename", self._rename), (os, "replace", self._rename), (os, "link", self._link)]
        new += [(os, "mkdir", self._mkdir), (os, "rmdir", self._removing("rmdir"))]
        new += [(os, name, self._removing("unlink")) for name in ("unlink", "remove")]
        new += [(os, "fsync", lambda _: None), (os, "urandom", self.drawn.randbytes), (shutil, "rmtree", self._rmtree)]
        new += [(time, "time", self._time), (time, "sleep", self._sleep), (locks, "_file_lock", self._lock)]
        new += [(module, "this_process", self._facts) for module in (locks, generations, working_run)]
        new += [(module, "is_alive", self._alive) for module in (locks, generations, working_run)]
        with ExitStack() as stack:
            for module, name, function in new:
                stack.enter_context(patch.object(module, name, function))
            yield


class _Lock:
    """A lock that keeps others out, or nobody."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self._simulation, self._name = simulation, name

    def acquire(self, timeout: float = -1) -> None:
        simulation = self._simulation
        while True:
            process = simulation._pause(0.0 if timeout == 0 else 0.5)
            if simulation.locks_lie or simulation._held.get(self._name, process) is process:
                simulation._held[self._name] = process
                return
            if timeout == 0:
                raise Timeout(self._name)

    def release(self) -> None:
        self._simulation._held.pop(self._name, None)


class _Scanned:
    """The entries of a folder, as `os.scandir` returns them."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Scanned:
        return self

    def __exit__(self, *_: object) -> None: ...


def _exists(path: str) -> bool:
    try:
        _REAL["lstat"](path)
    except OSError:
        return False
    return True


def _error(number: int, path: object) -> OSError:
    return OSError(number, os.strerror(number), str(path))
