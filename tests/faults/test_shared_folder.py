"""Processes on several machines work on one run in a simulated shared folder: nothing is lost, changed or mixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from foundations.errors import DamagedError, EnvironmentFailure, PublishedFirst, TakenOver
from foundations.files import read_file
from foundations.metrics import Metrics
from foundations.storage import tensor_files
from foundations.storage.locks import Holder
from foundations.storage.manifest import FileRecord, Manifest, manifest_number
from foundations.storage.run import Run
from foundations.storage.upkeep import mend, sweep_removed, verify
from tests.faults.shared_folder import Process, Simulation
from tests.foundations.toy_descriptions import ToyDesc, step

DESC = ToyDesc()
_WANTED = (0, 3, 6, 10)
"""The iterations whose states each process asks for."""
_KEPT = (0, 10)
"""Those that a training keeps in any case."""


def _to_bytes(tensors: Mapping[str, Any], facts: Mapping[str, Any] | None = None, owner: str = "") -> bytes:
    return json.dumps([dict(tensors), dict(facts or {}), owner]).encode()


def _read(path: Path, _how_to_mend: str, owner: str = "", **_: bool) -> tuple[Any, Any]:
    try:
        tensors, facts, written_as = json.loads(read_file(path))
    except FileNotFoundError as error:
        raise EnvironmentFailure(f"There is no file {path}.") from error
    except ValueError as error:
        raise DamagedError(f"{path} is damaged.") from error
    if owner != written_as:
        raise DamagedError(f"{path} was written as {written_as}.")
    return tensors, facts


class Work:
    """One seed: processes that compute the run, and are killed, and the checks of the run's folder at each change."""

    def __init__(self, seed: int, root: Path) -> None:
        self.simulation = Simulation(seed, root, locks_lie=seed % 4 != 0)
        self.root, self.drawn = root, self.simulation.drawn
        self.simulation.changed = self.check
        self.place = DESC.location(1).under(root)
        self.manifests: dict[str, bytes] = {}
        self.said: list[str] = []
        self.done = 0

    def run(self) -> None:
        for number in range(self.drawn.choice([2, 3, 4])):
            self._start(host=f"host{number % self.drawn.choice([1, 2, 3])}", lives=self.drawn.choice([0, 1, 2]))
        count = len(self.simulation.processes)
        with patch.object(tensor_files, "to_bytes", _to_bytes), patch.object(tensor_files, "read", _read):
            self.simulation.run()
            for process in self.simulation.processes:
                if process.error is not None:
                    raise process.error
            self._judge(count)

    def _start(self, host: str, lives: int) -> None:
        number = len(self.simulation.processes) + 1
        process = Process(number, host, lambda: self._work(number))
        if lives:
            process.dies_at = self.drawn.randint(1, self.drawn.choice([60, 250, 900]))
            process.then = lambda: self._start(host, lives - 1)
        self.simulation.start(process)

    def _work(self, number: int) -> None:
        while True:
            run = Run(self.root, DESC.location(1))
            try:
                with run.locked(self.said.append) as holder:
                    if run.manifest() is None:
                        self._train(run, number, holder)
                    missing = [at for at in _WANTED if not run.has_state(step(at))]
                    if missing:
                        self._replay(run, missing)
                    if self.drawn.random() < 0.3:
                        assert not mend(run), "an undamaged file was set aside"
                self.done += 1
                return
            except (PublishedFirst, TakenOver) as error:
                self.said.append(str(error))

    def _train(self, run: Run, number: int, holder: Holder) -> None:
        run.create(DESC)
        run.check_own()
        kept = run.load_checkpoint()
        at, chain = (kept[1]["step"], kept[1]["chain"]) if kept else (0, [])
        for iteration in range(at, 11):
            if iteration in _KEPT and (iteration > at or not run.has_state(step(iteration))):
                run.save_state(step(iteration), {"chain": chain})  # type: ignore[dict-item]
            if self.drawn.random() < 0.3:
                run.save_checkpoint({}, {"step": iteration, "chain": chain})
                run.save_metrics(Metrics({("test_loss", 0): 0.5}))
            chain = [*chain, number]
            run.log("a line")
            holder.note({"done": iteration})
            self.simulation._pause(self.drawn.uniform(0, 2))
        run.write("sparsity.json", b'{"chain": "' + "-".join(map(str, chain)).encode() + b'"}')
        run.save_metrics(Metrics({("test_loss", number): 0.5}))
        run.finish(Manifest(files={}, results={"by": float(number)}))

    def _replay(self, run: Run, missing: list[int]) -> None:
        manifest = run.manifest()
        assert manifest is not None
        for at in missing:
            run.save_state(step(at), {"chain": [at]})  # type: ignore[dict-item]
            self.simulation._pause(self.drawn.uniform(0, 2))
        run.add(*(run.state_name(step(at)) for at in missing))

    def check(self, changed: str) -> None:
        """Check the final folder after a change in it: complete, and as it was when it was published."""
        if not f"{changed}/".startswith(f"{self.place}/"):
            return
        found = {path.name: path.read_bytes() for path in self.place.iterdir() if path.is_file()}
        manifests = {name: data for name, data in found.items() if manifest_number(name)}
        assert "manifest.json" in manifests, "the final folder is there without a manifest"
        for name, data in self.manifests.items():
            assert manifests.get(name) == data, f"{name} was changed"
        self.manifests = manifests
        for data in manifests.values():
            for name, record in Manifest.from_bytes(data).files.items():
                assert name in found, f"{name} is missing"
                own = FileRecord(len(found[name]), hashlib.sha256(found[name]).hexdigest())
                assert own == record, f"{name} was changed"

    def _judge(self, count: int) -> None:
        assert self.done >= count, f"{self.done} of {count} processes have ended"
        run = Run(self.root, DESC.location(1))
        with patch.object(run, "_say", self.said.append), run.locked(self.said.append):
            assert verify(run) == []
            manifest = run.manifest()
        sweep_removed(self.root)
        assert manifest is not None
        assert {run.state_name(step(at)) for at in _WANTED} <= set(manifest.files)
        chain = json.loads((run.folder / "sparsity.json").read_text())["chain"].split("-")
        for at in _KEPT:  # the files are of one generation
            assert run.load_state(step(at))["chain"] == [int(each) for each in chain[:at]]
        assert run.metrics().values == {("test_loss", int(manifest.results["by"] or 0)): 0.5}
        left = [path.name for path in run.place.parent.iterdir() if path != run.place]
        assert left == [], f"{left} is left"


def play(seed: int, folder: Path) -> int:
    """Let processes work with one seed; return how many operations there were. `play(seed, ...)` again is the same."""
    work = Work(seed, folder / "root")
    try:
        work.run()
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    return sum(each.operations for each in work.simulation.processes)


@pytest.mark.parametrize("seed", range(50))
def test_processes_that_share_a_folder_lose_change_and_mix_nothing(seed: int, tmp_path: Path) -> None:
    assert play(seed, tmp_path) > 0


def test_a_seed_plays_the_same_again(tmp_path: Path) -> None:
    assert play(3, tmp_path / "a") == play(3, tmp_path / "b")


@pytest.mark.slow
def test_a_thousand_seeds_lose_change_and_mix_nothing(tmp_path: Path) -> None:
    operations = sum(play(seed, tmp_path / str(seed)) for seed in range(50, 1100))
    print(f"1050 seeds, {operations} operations")  # noqa: T201
