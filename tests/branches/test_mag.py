"""PHEW's MAG: train, prune gradually, train again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from branches.desc import BranchDesc
from foundations.description.desc import RunRef
from tests.branches.small_branches import describe, mask_of
from tests.training.small_runs import context, run_of, train_desc
from training.desc import TrainDesc
from training.jobs.compute import complete
from training.loop.lr_schedule import learning_rate

PARENT = train_desc(milestone_steps="1ep", gamma=0.1)


def stages(**flags: int) -> tuple[TrainDesc, BranchDesc, BranchDesc]:
    """Return the dense training, the pruning and the final training."""
    last = describe("mag", RunRef(PARENT), prune_fraction=0.9, **flags)
    pruning = last.state.run.desc
    return pruning.state.run.desc, pruning, last


def test_the_stages_are_the_published_ones() -> None:
    dense, pruning, last = stages(pre_epochs=2, gmp_epochs=4)

    assert dense.training.training_steps == "12it"
    assert dense.training.replaced({"training_steps": PARENT.training.training_steps}) == PARENT.training
    assert (pruning.start.iteration, pruning.end.iteration) == (0, 24)
    rate = learning_rate(pruning.as_trained.training, 6)
    assert {rate(t) for t in range(24)} == {0.1}
    assert (last.start.iteration, last.end) == (0, PARENT.end)
    assert last.retrain_training is None
    assert last.mask is not None
    assert last.mask.run.desc is pruning


def test_prunings_follow_the_cubic_of_their_number() -> None:
    _, pruning, _ = stages(pre_epochs=2, gmp_epochs=4)
    assert pruning.techniques is not None
    (_, gmp), *none = pruning.techniques.parts
    prunings = gmp.prunings(pruning.end)  # type: ignore[attr-defined]
    at = [step for t in range(24) if prunings.has(step := pruning.as_trained.step(f"{t}it"))]

    assert not none
    assert [step.iteration for step in at] == [0, 6, 12, 18]
    wanted = [0.9 - 0.9 * (1 - k / 4) ** 3 for k in (1, 2, 3, 4)]
    assert [gmp.level_at(step) for step in at] == pytest.approx(wanted)  # type: ignore[attr-defined]


def test_weights_are_trained_on_from_where_they_are(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    _, pruning, last = stages(pre_epochs=1, gmp_epochs=2)
    run = complete(last, place).run

    before = run_of(pruning, place).load_state(pruning.end)
    first = run.load_state(last.start)
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.items())
    assert mask_of(run).kept == round(0.1 * mask_of(run).total)


def test_without_gradual_pruning_it_prunes_once_and_without_dense_training_from_the_start() -> None:
    at_once = describe("mag", RunRef(PARENT), prune_fraction=0.9, pre_epochs=3, gmp_epochs=0)
    from_start = describe("mag", RunRef(PARENT), prune_fraction=0.9, pre_epochs=0, gmp_epochs=0)

    same = describe("oneshot", RunRef(PARENT), prune_fraction=0.9, prune_step="3ep", state_step="3ep")
    assert at_once.digest == same.digest
    assert from_start.digest == describe("oneshot", RunRef(PARENT), prune_fraction=0.9).digest
