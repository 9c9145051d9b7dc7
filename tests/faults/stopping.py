"""Commands stopped by a signal in each of their phases: the time until they end, and their remaining files.

A command is a process of its own, the first of a process group. A `sitecustomize` that only these processes import
looks at their stacks, and makes a file as soon as a function of the phase is on the stack of the main thread.

`python -m tests.faults.stopping [WORDS...]` prints a table of all phases, or of those whose names have one of the
words.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import interpreter
from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.faults.jobs import Command
from tests.faults.phases import PHASES, SECONDS, SLOW, Phase
from tests.faults.stage import contents, differences, is_leftover
from tests.interpreter import Interpreter

_WATCHER = """
import os, sys, threading

def _watch(function, marker, main):
    while not os.path.exists(marker):
        frame = sys._current_frames().get(main)
        while frame is not None:
            module, _, name = function.partition(":")
            if frame.f_globals.get("__name__") == module and name in ("*", frame.f_code.co_name):
                open(marker, "w").close()
                return
            frame = frame.f_back
        threading.Event().wait(0.002)

if os.environ.get("PHASE_FUNCTION"):
    found = os.environ["PHASE_FUNCTION"], os.environ["PHASE_MARKER"], threading.get_ident()
    threading.Thread(target=_watch, args=found, daemon=True).start()
"""
STRIKES = ((signal.SIGTERM, False), (signal.SIGINT, True))
"""A signal, and whether the whole process group gets it."""


@dataclass
class Stopped:
    """The outcome of a command that received a signal."""

    seconds: float
    code: int
    out: str
    err: str
    was_running: bool
    left: list[str]
    """The processes that are left of it."""

    @property
    def last_words(self) -> str:
        """The last line that it wrote."""
        return next(reversed((self.out + self.err).strip().splitlines()), "")

    def faults(self, phase: Phase, patience: float = 1.0) -> list[str]:
        """Return its faults. patience: the factor on the time limit."""
        said = self.err.strip().splitlines()
        found = []
        if not self.was_running:
            return ["it had ended before the signal"]
        if self.seconds > patience * phase.bound:
            found.append(f"it took {self.seconds:.1f} seconds")
        if any(word in self.out + self.err for word in ("Traceback", "Exception ignored", "EOFError")):
            found.append("a traceback")
        if self.code not in (0, 130, 143, -2, -15):
            found.append(f"exit code {self.code}")
        if len(said) > 2:
            found.append(f"{len(said)} lines")
        if phase.kept and phase.kept not in self.err:
            found.append(f"it does not say {phase.kept!r}")
        return found + [f"left: {name}" for name in self.left]


class Theatre:
    """A folder with a place that has the inputs of a command. The place never moves: runs may hold its path."""

    def __init__(self, folder: Path, program: Path = REPOSITORY) -> None:
        """program: the folder of open_prune.py."""
        self.folder, self.program = folder, program
        self._undisturbed: dict[Command, Mapping[str, str]] = {}
        (folder / "site").mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(_WATCHER)

    def begin(self, phase: Phase) -> Path:
        """Return the place, which has only the inputs of a command."""
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        (place / "root").mkdir(parents=True)
        (place / "datasets").mkdir()
        (place / "slow.py").write_text(SLOW)
        phase.prepare(place)
        for command in phase.before:
            self.run(command, place)
        return place

    def run(self, command: Command, place: Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises: AssertionError where it fails."""
        done = interpreter.run(self._words(command, place), self.program, self._settings(place))
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def stop(
        self,
        phase: Phase,
        place: Path,
        number: int,
        *,
        is_group: bool,
        after: float | None = None,
        patience: float = 1.0,
    ) -> Stopped:
        """Start a command, send it a signal in a phase, or a time after its start, and wait until it has ended."""
        marker = place / "marker"
        marker.unlink(missing_ok=True)
        settings = self._settings(place)
        if after is None:
            path = os.pathsep.join(filter(None, (str(self.folder / "site"), os.environ.get("PYTHONPATH"))))
            settings |= {"PHASE_FUNCTION": phase.function, "PHASE_MARKER": str(marker), "PYTHONPATH": path}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            is_bare = after is not None or phase.function.startswith("torch:")
            process = (_bare if is_bare else Interpreter)(
                self._words(phase.command, place),
                self.program,
                settings,
                stdout=out.fileno(),
                stderr=err.fileno(),
                start_new_session=True,
            )
            deadline = time.monotonic() + 90
            while after is None and not marker.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(phase.later if after is None else after)
            was_running = process.poll() is None and (after is not None or marker.exists())
            begun = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if is_group else os.kill)(process.pid, number)
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            left = _left(place, process.pid, begun + patience * SECONDS)
            seconds = time.monotonic() - begun
            said = [os.pread(file.fileno(), 1 << 20, 0).decode() for file in (out, err)]
        return Stopped(seconds, code, said[0], said[1], was_running, left)

    def consequences(self, phase: Phase, place: Path) -> list[str]:
        """Return the faults of a stopped command's files, and of the same command when it is repeated."""
        found = self._verified(place)
        if phase.is_repeated:
            expected = self._expected(phase, place)
            self.run(phase.command, place)
            found += [f"differs: {name}" for name in sorted(differences(_kept(place), expected))]
            found += [f"left: {path}" for path in place.rglob("*") if is_leftover(path)]
            found += self._verified(place)
        return found

    def _expected(self, phase: Phase, place: Path) -> Mapping[str, str]:
        """Return the files of an undisturbed command in the place; the place's own content is moved away meanwhile."""
        if phase.command not in self._undisturbed:
            aside = place.rename(place.with_name("aside"))
            self.run(phase.command, self.begin(phase))
            self._undisturbed[phase.command] = _kept(place)
            shutil.rmtree(place)
            aside.rename(place)
        return self._undisturbed[phase.command]

    def _verified(self, place: Path) -> list[str]:
        done = interpreter.run(self._words(("verify",), place), self.program, self._settings(place))
        return [] if done.returncode == 0 else [f"verify: {done.stdout}{done.stderr}"]

    def _settings(self, place: Path) -> dict[str, str]:
        return {**os.environ, **Terminal(place / "root", place / "datasets").settings()}

    @staticmethod
    def _words(command: Command, place: Path) -> list[str]:
        return ["open_prune.py", *(word.format(folder=place) for word in command)]


def _kept(place: Path) -> dict[str, str]:
    """Return digests of a command's results: runs, datasets and tickets, but not the figures, which contain dates."""
    return {name: found for name, found in contents(place).items() if name.endswith((".safetensors", ".csv", ".json"))}


def _bare(
    words: list[str], folder: Path, environment: dict[str, str], **files_and_session: Any
) -> subprocess.Popen[bytes]:
    """Start `python WORDS...` where the start itself is disturbed, with nothing imported before."""
    command = [sys.executable, *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, **files_and_session)


def _left(place: Path, session: int, deadline: float) -> list[str]:
    """Return the processes that work on a place or are of a session, once there are none or the deadline has passed."""
    sign = f"OPEN_PRUNE_ROOT={place}/root\0".encode()
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, _, own_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                is_of_session = int(own_session) == session and state != "Z"
                if is_of_session or sign in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_text().replace("\0", " ")[:100])
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def main() -> None:
    """Print a line for each phase and signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--program", type=Path, default=REPOSITORY, help="the folder of open_prune.py")
    parser.add_argument("--checked", action="store_true", help="also check what is left, and repeat the command")
    given = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        theatre = Theatre(Path(folder), given.program)
        for name, phase in PHASES.items():
            if given.words and not any(word in name for word in given.words):
                continue
            for number, is_group in STRIKES:
                place = theatre.begin(phase)
                stopped = theatre.stop(phase, place, number, is_group=is_group)
                faults = stopped.faults(phase)
                if given.checked and not faults:
                    faults = theatre.consequences(phase, place)
                worst = max(worst, stopped.seconds) if phase.bound == SECONDS else worst
                cells = (f"{name:<24}", number.name, f"{'group' if is_group else 'process':<7}")
                figures = (f"{stopped.seconds:5.2f} s", f"{stopped.code:>4}", "; ".join(faults) or "ok")
                sys.stdout.write(" ".join([*cells, *figures, "|", stopped.last_words[:150]]) + "\n")
                sys.stdout.flush()
    sys.stdout.write(f"maximum {worst:.2f} s\n")


if __name__ == "__main__":
    main()
