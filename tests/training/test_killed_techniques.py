"""kill -9 at random steps of a training with techniques: the same command finishes it with the same bytes."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from branches.desc import BranchDesc
from foundations.errors import UsageError
from tests.training.small_runs import FORK, Listener, context, run_of, tensor_digests
from tests.training.small_techniques import LAST, desc_of
from training.desc import TrainDesc
from training.jobs.compute import complete
from training.registry import TECHNIQUES

SPELLINGS = list(TECHNIQUES.spellings())


class KilledAt(Listener):
    """Kills its process when a training is at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        if what == "train" and done == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def compute(desc: TrainDesc | BranchDesc, root: Path, digits: Path, **changes: Any) -> None:
    complete(desc, context(root, digits, **changes), [desc.start.at(4)])


def compute_until_killed(desc: TrainDesc | BranchDesc, root: Path, digits: Path, step: int, seconds: float) -> None:
    child = FORK.Process(
        target=compute,
        args=(desc, root, digits),
        kwargs={"reporter": KilledAt(step), "checkpoint_seconds": seconds},
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, f"at {step}: ended with {child.exitcode}"


def assert_survives_kills(desc: TrainDesc | BranchDesc, tmp_path: Path, digits: Path) -> None:
    """Assert that a training killed twice, right after a checkpoint and some steps after it, has the same bytes."""
    names = desc.techniques.technique if desc.techniques is not None else None
    drawn = random.Random(names)
    first = drawn.randint(1, LAST)
    whole, killed = tmp_path / f"{names} whole", tmp_path / f"{names} killed"
    compute(desc, whole, digits)

    compute_until_killed(desc, killed, digits, first, seconds=0.0)
    compute_until_killed(desc, killed, digits, drawn.randint(first, LAST), seconds=1e6)
    compute(desc, killed, digits)

    found, expected = (tensor_digests(run_of(desc, context(root, digits))) for root in (killed, whole))
    assert found == expected, names


def with_another(technique: str) -> TrainDesc | BranchDesc:
    """Return a training with a technique and another one, which is drawn by its name from those that go with it."""
    drawn = random.Random(technique)
    for other in drawn.sample(SPELLINGS, len(SPELLINGS)):
        try:
            return desc_of(*drawn.sample([technique, other], 2))
        except UsageError:
            continue
    raise AssertionError(f"{technique} goes with no other technique")


@pytest.mark.parametrize("technique", SPELLINGS)
def test_a_training_killed_at_random_steps_ends_with_the_same_bytes(
    technique: str, tmp_path: Path, digits: Path
) -> None:
    assert_survives_kills(desc_of(technique), tmp_path, digits)
    assert_survives_kills(with_another(technique), tmp_path, digits)


@pytest.mark.slow
@pytest.mark.parametrize("technique", SPELLINGS)
def test_a_training_with_any_other_technique_ends_with_the_same_bytes(
    technique: str, tmp_path: Path, digits: Path
) -> None:
    others = [other for other in SPELLINGS if other != technique]
    ended = 0
    for other in others:
        try:
            desc = desc_of(technique, other)
        except UsageError:
            continue
        assert_survives_kills(desc, tmp_path, digits)
        ended += 1
    assert ended
