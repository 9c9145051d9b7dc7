"""Runs inputs in forked processes with bounds on memory and time, and reports their forbidden actions."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from foundations.errors import OpenPruneError

_FORK = multiprocessing.get_context("fork")
_SECONDS = 20.0
"""Maximum seconds for one input."""
_MEMORY = 1 << 30
"""Maximum growth of the process by one input, in bytes of address space."""
_CODES = (0, 1, 2, 75)
"""Exit codes of commands that are not interrupted (see `foundations.errors`)."""
_MOST_WORDS = 20_000

_REFUSED = [False]
"""Whether a command refused something, of the input that is tried."""

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f]")

Attempt = Callable[[random.Random], None]
"""Makes one input, has it read, and raises `Wrong`, or lets an error through that is not one for people."""


class Wrong(Exception):
    """An input did something forbidden, or was accepted as something else."""


@dataclass(frozen=True)
class Target:
    """Code that reads input from others."""

    name: str
    prepare: Callable[[Path], Attempt]
    """Given a folder of its own, returns a function that makes and tries an input. It may write only there."""
    inputs: int
    """Number of inputs that the long form tries."""
    batch: int = 500
    """Number of inputs that one process tries."""


@dataclass
class Outcome:
    """Outcome of a target's inputs."""

    tried: int = 0
    refused: int = 0
    """Number of inputs that were refused with an error message."""
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Said:
    """Output and exit of a command."""

    code: int
    out: str
    err: str


def command(*arguments: str) -> Said:
    """Run a command in this process. Raises: Wrong for an exit code that is not documented, and endless words."""
    from cli.main import main

    # As a terminal's: text that cannot be encoded fails here, too.
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    texts = []
    for stream in (out, err):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    if code not in _CODES:
        raise Wrong(f"{arguments} ended with {code}")
    if code and not texts[1].strip() and not texts[0].strip():
        raise Wrong(f"{arguments} ended with {code} and said nothing")
    if "Traceback (most recent call last)" in "".join(texts) or len(texts[1]) > _MOST_WORDS:
        raise Wrong(f"{arguments} printed {texts[1][:500]}")
    if "--export" not in arguments and (found := _OBEYED.search("".join(texts))):
        raise Wrong(f"{arguments} printed {found[0]!r}, which a terminal obeys")
    _REFUSED[0] |= code != 0
    return Said(code, *texts)


def fuzz(target: Target, folder: Path, seed: int, numbers: Sequence[int]) -> Outcome:
    """Try the inputs of some numbers."""
    outcome, began = Outcome(), time.monotonic()
    waiting = list(numbers)
    while waiting:
        batch, waiting = waiting[: target.batch], waiting[target.batch :]
        reached = _batch(target, folder, seed, batch, outcome)
        waiting = batch[reached:] + waiting
    outcome.seconds = time.monotonic() - began
    return outcome


def _batch(target: Target, folder: Path, seed: int, numbers: Sequence[int], outcome: Outcome) -> int:
    """Try inputs in one process; return how many were tried until it ended."""
    ours, theirs = _FORK.Pipe(duplex=False)
    place = Path(tempfile.mkdtemp(dir=folder))
    process = _FORK.Process(target=_work, args=(target, place, seed, numbers, theirs))
    process.start()
    theirs.close()
    tried = 0
    try:
        while tried < len(numbers):
            # The first one also waits for the target's preparation.
            problem = _next(ours, _SECONDS if tried else 3 * _SECONDS)
            tried += 1
            outcome.tried += 1
            outcome.refused += problem == "refused"
            if problem in (_HUNG, _DIED):
                process.kill()
                problem_at = f"{problem}\n{(place / _LAST).read_text()[:3000]}"
                outcome.findings.append(f"{target.name}, seed {seed}, input {numbers[tried - 1]}: {problem_at}")
                break
            if problem not in ("", "refused"):
                outcome.findings.append(f"{target.name}, seed {seed}, input {numbers[tried - 1]}: {problem}")
    finally:
        process.kill()
        process.join()
        ours.close()
        shutil.rmtree(place, ignore_errors=True)
    return tried


_LAST = "last.txt"
"""File that names the input at which a process died, or took too long."""
_HUNG, _DIED = f"it took more than {_SECONDS:g} seconds", "the process died"


def _next(connection: Connection, seconds: float) -> str:
    try:
        return str(connection.recv()) if connection.poll(seconds) else _HUNG
    except EOFError:
        return _DIED


def _work(target: Target, place: Path, seed: int, numbers: Sequence[int], connection: Connection) -> None:
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(quiet, number)
    sys.dont_write_bytecode = True
    canary = _canary(place)
    (place / "own").mkdir()
    os.chdir(place / "own")
    attempt = target.prepare(place / "own")
    last = (place / _LAST).open("w")
    faulthandler.enable(last)
    before = _listing(canary)
    guard = Guard(place / "own")
    sys.addaudithook(guard)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    for number in numbers:
        faulthandler.dump_traceback_later(_SECONDS * 0.9, file=last)
        problem = _tried(attempt, random.Random(f"{target.name} {seed} {number}"), guard)
        if not problem or problem == "refused":
            problem = "a file beside its folder changed" if _listing(canary) != before else problem
        connection.send(problem)
    connection.close()
    os._exit(0)  # no clean-up, and no report of what was read


def _tried(attempt: Attempt, stream: random.Random, guard: Guard) -> str:
    """Try one input; return its fault, `refused` for a regular error message, or nothing."""
    guard.problems.clear()
    _REFUSED[0], guard.is_on, code = False, True, ""
    try:
        attempt(stream)
        code = "refused" if _REFUSED[0] else ""
    except OpenPruneError as error:
        code = "refused" if len(str(error)) < _MOST_WORDS else f"an endless message: {str(error)[:500]}"
    except Wrong as wrong:
        code = f"Wrong: {wrong}"
    except BaseException:
        code = traceback.format_exc(limit=-6)[-3000:]
    finally:
        guard.is_on = False
    return f"{'; '.join(guard.problems)} {code}" if guard.problems else code


class Guard:
    """Records actions of Python that reading a file must not cause: executing, or writing elsewhere."""

    _EXECUTES = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")
    _CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod")

    def __init__(self, folder: Path) -> None:
        self._inside = f"{folder}{os.sep}"
        self.is_on = False
        self.problems: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event in self._EXECUTES:
            self.problems.append(f"{event}{arguments}"[:300])
        elif event in self._CHANGES:
            changed = {"os.rename": arguments[:2], "os.link": arguments[:2], "os.symlink": arguments[1:2]}
            for path in changed.get(event, arguments[:1]):
                self._check(event, path)
        elif event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes or (mode and set(mode) & set("wax+")):
                self._check(event, path)

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        parent, name = os.path.split(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100
        whole = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 (the file itself may be a link)
        if not f"{whole}{os.sep}".startswith(self._inside) and whole != os.devnull:
            self.problems.append(f"{event} {os.fsdecode(path)!r}"[:300])


def _canary(place: Path) -> Path:
    """Return a folder beside the target's, with files that a name with `..` could reach."""
    canary = place / "canary"
    for name in ("x", "replicate_1/main/x"):
        (canary / name).parent.mkdir(parents=True, exist_ok=True)
        (canary / name).write_text(name)
    return canary


def _listing(folder: Path) -> list[tuple[str, int]]:
    """Return the files beside a target's folder, with their times of change."""
    beside = [path for path in folder.parent.iterdir() if path.name not in ("own", _LAST)]
    found = [*beside, *folder.rglob("*")]
    return sorted((str(path), path.lstat().st_mtime_ns) for path in found)


@contextlib.contextmanager
def restored(files: dict[Path, bytes], folder: Path) -> Iterator[None]:
    """Restore a folder to some files when the block ends.

    Files of the same size and bytes are left alone.
    """
    try:
        yield
    finally:
        wanted = {*map(str, files), *(str(parent) for path in files for parent in path.parents)}
        for place, folders, names in os.walk(folder):
            for name in [each for each in folders if os.path.join(place, each) not in wanted]:  # noqa: PTH118
                folders.remove(name)
                _remove(Path(place, name))
            for name in names:
                if os.path.join(place, name) not in wanted:  # noqa: PTH118
                    _remove(Path(place, name))
        for path, content in files.items():
            if _STAMPS.get(path) != _stamp(path):
                _remove(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                _STAMPS[path] = _stamp(path)


_STAMPS: dict[Path, tuple[int, ...]] = {}
"""Status of each file when it was last restored."""


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.lstat()
    except OSError:
        return ()
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def files_in(folder: Path) -> dict[Path, bytes]:
    """Return the files under a folder, with their content, to be brought back by `restored`."""
    found = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    _STAMPS.update({path: _stamp(path) for path in found})
    return found


def distinct(findings: Sequence[str]) -> list[str]:
    """Return one finding for each place and reason, with how often that was found."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for finding in findings:
        places = [line for line in finding.splitlines() if line.startswith("  File ")]
        words = re.sub(r"[0-9a-f]{6,}|'[^']*'|[0-9]+|/[^ ]*", "#", finding.strip().splitlines()[-1])[:80]
        kinds.setdefault((places[-1] if places else words, words if places else ""), []).append(finding)
    return [f"{len(found)} times: {found[0]}" for found in kinds.values()]


def report(outcomes: dict[str, Outcome]) -> str:
    """Return a table of outcomes as JSON lines, for the log of the long form."""
    rows = [
        {
            "target": name,
            "tried": each.tried,
            "refused": each.refused,
            "seconds": round(each.seconds, 1),
            "found": len(each.findings),
        }
        for name, each in outcomes.items()
    ]
    return "\n".join(map(json.dumps, rows))
