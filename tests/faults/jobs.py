"""Commands that faults are put into, and what must hold after each fault."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.main import main
from foundations.files import read_file
from foundations.locks import is_held
from foundations.store import all_runs
from foundations.upkeep import verify
from tests.cli.terminal import Result, Running, Terminal
from tests.faults.injection import Fault, Kind, Witness, arm

SMALL = ("--default_hparams=digits_lenet_16", "--batch_size=256", "--training_steps=2it", "--checkpoint_seconds=0")
_SECONDS = 60.0
_EXPECTED = {Kind.KILL: (0, -9), Kind.TERM: (0, 1, 143, -15)}
_CHANGING = ("log.txt", "fingerprint.json")
"""Files that have times in them."""


@dataclass(frozen=True)
class Job:
    """A command, and those that must have run before it."""

    command: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    repeated: tuple[int, ...] = (0,)
    """With which codes the command may end once more after it has done its work."""
    has_datasets: bool = True
    """Whether the dataset is prepared already."""


_TRAIN = ("train", *SMALL)
_BRANCH = ("branch", "train")
_RANDOM = ("--strategy=random", "--density=0.1")
_OFTEN = ("--mask_update_frequency=1it", "--mask_update_end=2it")
_EXPORT = ("export", "train_", "{folder}/ticket.safetensors")
JOBS = {
    "train": Job(_TRAIN),
    "oneshot": Job((*_BRANCH, "oneshot", *SMALL, "--strategy=snip1", "--density=0.1"), (_TRAIN,)),
    "replay": Job((*_BRANCH, "lottery_rewind", *SMALL, "--rewind_step=1it", "--density=0.5"), (_TRAIN,)),
    "reinitialize": Job((*_BRANCH, "reinitialize", *SMALL, "--density=0.5"), (_TRAIN,)),
    "randomize_layerwise": Job((*_BRANCH, "randomize_layerwise", *SMALL, "--density=0.5"), (_TRAIN,)),
    "lottery": Job(("lottery", *SMALL, "--levels=1")),
    "gmp": Job((*_TRAIN, "--technique=gmp", "--gmp_end=2it", "--gmp_frequency=1it", "--gmp_density=0.1")),
    "rigl": Job((*_BRANCH, "oneshot", *SMALL, *_RANDOM, "--technique=rigl", *_OFTEN)),
    "export": Job(_EXPORT, (_TRAIN,)),
    "export for OpenLTH": Job(("export", "train_", "{folder}/openlth", "--openlth"), (_TRAIN,)),
    "import": Job(("import", "{folder}/ticket.safetensors"), (_TRAIN, _EXPORT)),
    "rm": Job(("rm", "train_", "--force"), (_TRAIN,), (0, 2)),
    "prepare": Job(_TRAIN, has_datasets=False),
}


@functools.cache
def warm() -> None:
    """Import, once, all that commands use, so that the forked ones need not."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for command in (JOBS["oneshot"].command, JOBS["lottery"].command):
            places = (f"--root={folder}/root", f"--datasets_root={folder}/datasets", "--device=cpu")
            assert main((*command, *places)) == 0


class Stage:
    """A folder with a root and datasets, as a job finds them, and the job's undisturbed result."""

    def __init__(self, job: Job, folder: Path, digits: Path) -> None:
        self.job, self._folder, self._number = job, folder, 0
        self._begin = folder / "begin"
        warm()
        (self._begin / "root").mkdir(parents=True)
        (self._begin / "datasets").mkdir()
        if job.has_datasets:
            shutil.copytree(digits, self._begin / "datasets", dirs_exist_ok=True)
        for command in job.before:
            result = self._run(command, self._begin)
            assert result.code == 0, result.err
        self.found = contents(self._begin)
        calm = self.copy()
        result = self._run(job.command, calm)
        assert result.code == 0, result.err
        self.expected = contents(calm)
        shutil.rmtree(calm)

    def copy(self) -> Path:
        """Return a copy of what the job finds, to do anything to."""
        self._number += 1
        place = self._folder / str(self._number)
        shutil.copytree(self._begin, place)
        return place

    def inject(self, fault: Fault) -> str:
        """Run the job with a fault and judge what is left; return at what it struck, nothing where it did not."""
        place, witness = self.copy(), Witness()
        result = self._run(self.job.command, place, fault, witness)
        where = f"{fault.kind.name} at {witness.struck()}\n{result.out}{result.err}"
        if witness.struck():
            judge_output(result, fault.kind, where)
            self._judge_runs(place, where)
            again = self._run(self.job.command, place)
            assert again.code in self.job.repeated, f"{where}\nagain: {again.out}{again.err}"
            swept = self._run(("verify",), place)
            assert swept.code == 0, f"{where}\nverify: {swept.out}{swept.err}"
            assert contents(place) == self.expected, where
            left = [str(path) for path in place.rglob("*") if is_leftover(path)]
            assert not left, f"{where}\nleft: {left}"
        shutil.rmtree(place)
        return witness.struck()

    def _judge_runs(self, place: Path, where: str) -> None:
        for run in all_runs(place / "root"):
            assert verify(run) == [], where
            assert not is_held(run.lock_path), where
            if (run.folder / "manifest.json").exists():
                name = str((run.folder / "manifest.json").relative_to(place))
                right = (self.expected.get(name), self.found.get(name))  # `rm` may not have come to it
                assert digest(run.folder / "manifest.json") in right, where

    def _run(
        self, command: tuple[str, ...], place: Path, fault: Fault | None = None, witness: Witness | None = None
    ) -> Result:
        terminal = Terminal(place / "root", place / "datasets")
        words = tuple(word.format(folder=place) for word in command)
        if fault is None or witness is None:
            return finished(terminal.start(*words))
        running = _Armed(words, terminal.settings(), fault, place, witness)
        return finished(running)


class _Armed(Running):
    """A command under way, with a fault ahead."""

    def __init__(
        self, arguments: tuple[str, ...], environment: dict[str, str], fault: Fault, place: Path, witness: Witness
    ) -> None:
        self._fault = (fault, place, witness)
        super().__init__(arguments, environment)

    def _main(self, arguments: tuple[str, ...], environment: dict[str, str], user: int | None) -> None:
        arm(*self._fault)
        super()._main(arguments, environment, user)


def finished(running: Running) -> Result:
    """Wait for a command, which must not hang."""
    begun = time.monotonic()
    running.process.join(_SECONDS)
    if running.process.is_alive():
        running.kill()
        raise AssertionError(f"it hung: {running.output()}")
    assert time.monotonic() - begun < _SECONDS
    return running.result()


def judge_output(result: Result, kind: Kind, where: str) -> None:
    """Assert that a command ended as people may expect after a fault: without a traceback, in at most three lines."""
    assert "Traceback" not in result.out + result.err, where
    assert result.code in _EXPECTED.get(kind, (0, 1)), where
    if result.code == 1:
        assert 1 <= len(result.err.strip().splitlines()) <= 3, where


def contents(place: Path) -> dict[str, str]:
    """Return a digest of each file that matters, by its place."""
    return {
        str(path.relative_to(place)): digest(path)
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and path.name not in _CHANGING
        and path.suffix not in (".lock", ".holder")
        # `Run.finish` removes it last: one that is left beside a manifest is of no use and does no harm.
        and not (path.name == "checkpoint.safetensors" and path.with_name("manifest.json").exists())
    }


def digest(path: Path) -> str:
    """Return a digest of a file's content, but for the times in manifests and the order of metadata."""
    data = read_file(path)
    if path.name == "manifest.json":
        tree: dict[str, Any] = json.loads(data)
        for name in ("wall_seconds", "finished", "sha256", "parents", "versions"):
            tree.pop(name, None)  # that of an imported run is the path of the ticket; versions name the commit
        data = json.dumps(tree, sort_keys=True).encode()
    elif "datasets" in path.parts and path.suffix == ".safetensors":
        size = 8 + int.from_bytes(data[:8], "little")
        tree = json.loads(data[8:size])
        data = json.dumps(tree, sort_keys=True).encode() + data[size:]
    return hashlib.sha256(data).hexdigest()


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder should be gone once the work is done."""
    return path.suffix == ".part" or path.name.startswith(".removed_")
