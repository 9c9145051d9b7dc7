"""Pruning of identity shortcuts, as Synaptic-Flow's --prune-residual means it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.errors import UsageError
from foundations.plan import Target, plan
from pruning.hparams import PruningHparams
from tests.branches.small_branches import mask_of
from tests.training.small_runs import context, oneshot_desc
from training.desc import TrainDesc
from training.jobs.compute import complete
from training.recipes import recipe

RESNET = {"model_name": "digits_resnet_8_4", "training_steps": "2it"}
SCALE = "blocks.0.shortcut.weight"


@pytest.mark.parametrize("strategy", ["synflow", "snip1", "magnitude", "random"])
def test_scales_of_shortcuts_are_scored_pruned_and_never_trained(strategy: str, tmp_path: Path, digits: Path) -> None:
    flags: dict[str, Any] = {
        "prune_residual": True,
        "technique": "shortcut_scales",
        "density": 0.3,
        "allocation": "uniform",
    }
    desc = oneshot_desc(strategy, RESNET, **flags)
    run = complete(desc, context(tmp_path, digits)).run

    mask, last = mask_of(run), run.load_state(desc.end)

    assert int(mask[SCALE].sum()) == 1  # of four
    assert torch.equal(last[SCALE], mask[SCALE].float())


def test_a_network_without_scales_is_refused_with_what_adds_them(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(UsageError, match=r"^prune_residual: .* shortcut_scales"):
        complete(oneshot_desc("magnitude", RESNET, prune_residual=True), context(tmp_path, digits))


def test_a_lottery_without_scales_is_refused_before_it_begins(tmp_path: Path) -> None:
    training = TrainDesc.of({**recipe("digits_resnet_8_4"), **RESNET})
    lottery = Lottery(training, PruningHparams(prune_residual=True), LotteryHparams())

    with pytest.raises(UsageError, match=r"^prune_residual: .* shortcut_scales"):
        plan([Target(desc, 1) for _, desc in lottery.levels(1)], tmp_path)


def test_gradual_pruning_without_scales_is_refused_before_it_begins(tmp_path: Path) -> None:
    values = {**recipe("digits_resnet_8_4"), **RESNET, "gmp_density": 0.1, "gmp_prune_residual": True}

    with pytest.raises(UsageError, match=r"^prune_residual: .* shortcut_scales"):
        plan([Target(TrainDesc.of({**values, "technique": "gmp"}), 1)], tmp_path)
    assert plan([Target(TrainDesc.of({**values, "technique": "gmp,shortcut_scales"}), 1)], tmp_path).to_do()


def test_the_technique_alone_leaves_results_as_they_are(tmp_path: Path, digits: Path) -> None:
    plain, scaled = (
        complete(oneshot_desc("synflow", RESNET, density=0.3, **flags), context(tmp_path, digits)).run
        for flags in (dict[str, Any](), {"technique": "shortcut_scales"})
    )

    assert mask_of(plain) == mask_of(scaled)
