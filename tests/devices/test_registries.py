"""Everything with a name that acts in training or scoring, on the simulated GPU: results are those on the CPU."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from branches.desc import BranchDesc
from pruning.registry import ALLOCATIONS, SCHEDULES, STRUCTURES
from tests.devices.simulated import OnDevice
from tests.devices.test_other_device import compare, computed
from tests.training.small_runs import Listener, context, oneshot_desc, run_of, train_desc
from tests.training.test_resuming import JOBS
from training.desc import TrainDesc
from training.jobs.compute import complete
from training.registry import LR_SCHEDULES, TECHNIQUES


@dataclass
class Waits(Listener):
    """A reporter that counts the waits of a training."""

    platform: OnDevice = field(default_factory=OnDevice)
    counts: list[int] = field(default_factory=list)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        if what == "train":
            self.counts.append(len(self.platform.waits))

    @property
    def of_steps(self) -> list[int]:
        """The waits in each step but the first and the last one, in which states are kept and evaluated."""
        return [after - before for before, after in itertools.pairwise(self.counts)][1:-1]


def techniques_of(desc: TrainDesc | BranchDesc) -> set[str]:
    return set() if desc.techniques is None else {technique.spelling for technique, _ in desc.techniques.parts}


def covering() -> set[str]:
    """Return the names of jobs that have each technique at least once, those of networks without convolutions first."""
    found, missing = set[str](), set(TECHNIQUES.spellings())
    for name in sorted(JOBS, key=lambda name: "resnet" in str(JOBS[name])):
        if missing & techniques_of(JOBS[name]):
            missing -= techniques_of(JOBS[name])
            found.add(name)
    assert not missing
    return found


QUICK = covering()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name, desc in JOBS.items()
        if desc.techniques
    ],
)
def test_techniques_there_are_as_on_the_cpu_and_steps_between_their_updates_do_not_wait(
    name: str, tmp_path: Path, digits: Path
) -> None:
    desc = JOBS[name]
    if isinstance(desc, TrainDesc):
        desc = replace(desc, training=desc.training.replaced({"precision": "float32"}))
    waits = Waits()
    place = context(tmp_path / "there", digits, evaluate_only_at_end=True, reporter=waits, platform=waits.platform)
    complete(desc, place)
    compare(run_of(desc, place), computed(desc, tmp_path / "here", digits, None))
    assert waits.of_steps.count(0) >= len(waits.of_steps) / 3, waits.of_steps


OF_SCORING: dict[str, dict[str, Any]] = {
    **{f"allocation {each.spelling}": {"allocation": each.spelling} for each in ALLOCATIONS},
    **{f"schedule {each.spelling}": {"prune_schedule": each.spelling, "prune_iterations": 3} for each in SCHEDULES},
    **{
        f"structure {name}": {"structure": name, "density": None}
        for each in STRUCTURES
        if each.kept
        for name in each.examples
    },
}


@pytest.mark.parametrize("name", OF_SCORING)
def test_choices_of_scoring_there_are_as_on_the_cpu(name: str, tmp_path: Path, digits: Path) -> None:
    desc = oneshot_desc(
        "snip2",
        prune_step="0it",
        parent={"model_name": "digits_lenet_16_8", "training_steps": "0it"},
        **{"density": 0.5, **OF_SCORING[name]},
    )
    compare(computed(desc, tmp_path / "there", digits, OnDevice()), computed(desc, tmp_path / "here", digits, None))


@pytest.mark.parametrize("name", LR_SCHEDULES.spellings())
def test_schedules_of_the_learning_rate_there_are_as_on_the_cpu(name: str, tmp_path: Path, digits: Path) -> None:
    desc = train_desc(lr_schedule=name, warmup_steps="2it", training_steps="5it")
    compare(computed(desc, tmp_path / "there", digits, OnDevice()), computed(desc, tmp_path / "here", digits, None))
