"""The command line as tests use it: as a process of its own, with its output and exit code."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from foundations.description.address import Location
from foundations.files import sha256_of_file
from foundations.storage.run import Run
from tests import interpreter
from tests.conftest import REPOSITORY

FORK = multiprocessing.get_context("fork")
LENET = ("--default_hparams=digits_lenet_16", "--batch_size=256", "--milestone_steps=9it", "--gamma=0.1")
"""Six iterations an epoch, a few milliseconds each."""
SHORT = (*LENET, "--training_steps=3ep")
LONG = (*LENET, "--training_steps=250ep", "--evaluate_only_at_end", "--checkpoint_seconds=0.05")
"""About a second of training."""


@dataclass
class Result:
    code: int
    out: str
    err: str

    def assert_is_for_people(self, code: int, *words: str) -> None:
        """Assert that the process failed with at most three lines, which have some words, and without a traceback."""
        assert self.code == code, self.out + self.err
        assert "Traceback" not in self.err
        assert 1 <= len(self.err.strip().splitlines()) <= 3, self.err
        for word in words:
            assert word in self.err


class Process(Protocol):
    """The parts of `multiprocessing.Process` that tests use."""

    @property
    def pid(self) -> int | None: ...

    @property
    def exitcode(self) -> int | None: ...

    def is_alive(self) -> bool: ...

    def join(self, timeout: float | None = None) -> None: ...

    def kill(self) -> None: ...


class Running:
    """A command under way."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], user: int | None = None) -> None:
        self._output = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        self.process = self._start(arguments, environment, user)

    def _start(self, arguments: tuple[str, ...], environment: dict[str, str], user: int | None) -> Process:
        out, err = (file.fileno() for file in self._output)
        words, variables = ("open_prune.py", *arguments), {**os.environ, **environment}
        return interpreter.Interpreter(words, REPOSITORY, variables, stdout=out, stderr=err, is_warm=True, user=user)

    def output(self) -> list[str]:
        """Return the text so far of standard output and of standard error."""
        return [os.pread(file.fileno(), 1 << 20, 0).decode() for file in self._output]

    def wait_for(self, words: str) -> None:
        """Wait until the output has some words."""
        deadline = time.monotonic() + 60
        while words not in "".join(self.output()):
            assert time.monotonic() < deadline, self.output()
            assert self.process.is_alive() or words in "".join(self.output()), self.output()
            time.sleep(0.005)

    def kill(self) -> bool:
        """Kill the process outright; tell whether it was still at work."""
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -9

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    def result(self) -> Result:
        self.process.join()
        return Result(self.process.exitcode or 0, *self.output())


@dataclass
class Terminal:
    """A root, a folder of datasets, and commands in them."""

    root: Path
    datasets: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: int | None = None
    """As whom commands act, if root runs the tests."""

    def settings(self) -> dict[str, str]:
        return {
            "OPEN_PRUNE_ROOT": str(self.root),
            "OPEN_PRUNE_DATASETS": str(self.datasets),
            "OPEN_PRUNE_NO_DOWNLOAD": "1",
            "OPEN_PRUNE_SITE": os.devnull,
            "OPEN_PRUNE_CACHE": "",
            "OMP_NUM_THREADS": "1",
            "XDG_STATE_HOME": str(self.root.parent / "state"),
            **self.environment,
        }

    def start(self, *arguments: str) -> Running:
        """Begin a command in a new interpreter where all that it imports is imported already."""
        return Running(arguments, self.settings(), self.user)

    def run(self, *arguments: str) -> Result:
        return self.start(*arguments).result()

    def cold(self, *arguments: str, is_bare: bool = False) -> Result:
        """Run a command in a new interpreter. is_bare: not even torch is imported there, as from a shell."""
        return self._in_new_interpreter(["open_prune.py", *arguments], is_bare)

    def python(self, code: str, *, is_bare: bool = False) -> Result:
        """Run some Python in a new interpreter, in the repository. is_bare: not even torch is imported there."""
        return self._in_new_interpreter(["-c", code], is_bare)

    def _in_new_interpreter(self, words: list[str], is_bare: bool) -> Result:
        run = interpreter.run_bare if is_bare else interpreter.run
        done = run(words, REPOSITORY, {**os.environ, **self.settings()})
        return Result(done.returncode, done.stdout, done.stderr)

    def where(self, *arguments: str) -> Path:
        """Return the directory of the run of a job's arguments."""
        found = self.run(*arguments, "--display_output_location")
        folder = Path(found.out.strip())
        assert folder.is_absolute(), (
            f"no directory, but: {found.out}{found.err}"
        )  # tests remove it: never that of tests
        return folder

    def stored(self, *arguments: str) -> Run:
        """Return the run of a job's arguments: its files are in a working folder until it is complete."""
        location = Location.parse(str(self.where(*arguments).relative_to(self.root)))
        assert location is not None
        return Run(self.root, location)

    def files(self) -> dict[str, tuple[str, int]]:
        """Return digest and time of change of every file under the root, but for the locks."""
        return {
            str(path.relative_to(self.root)): (sha256_of_file(path), path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
            if path.is_file() and ".locks" not in path.parts
        }


def tensors_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the states and the mask in a run's directory."""
    return {path.name: sha256_of_file(path) for path in sorted(folder.glob("*.safetensors"))}
