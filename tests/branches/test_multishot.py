"""The lottery as Synaptic-Flow's multishot: short levels, and batchnorm statistics that are kept."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.desc import BranchDesc
from branches.kinds import load_ref
from branches.lottery.lottery import Lottery, LotteryHparams
from branches.named.branch import last_state
from foundations.description.desc import Desc, RunRef
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from tests.branches.small_branches import describe, mask_of
from tests.training.small_runs import context, run_of, train_desc
from training.jobs.compute import complete

RESNET = {"model_name": "digits_resnet_8_8"}


def lottery(model: dict[str, Any] | None = None, **flags: Any) -> Lottery:
    return Lottery(train_desc(**(model or {})), PruningHparams.of({}), LotteryHparams(**flags))


def levels(last: int, model: dict[str, Any] | None = None, **flags: Any) -> list[Desc]:
    return [desc for _, desc in lottery(model, **flags).levels(last)]


def test_all_levels_but_the_last_are_short() -> None:
    found = levels(3, level_steps="1ep")

    assert [desc.end.iteration for desc in found] == [6, 6, 6, 18]
    assert found[0].digest == train_desc(training_steps="6it").digest
    assert found[1].sources()["scored"].run.desc == found[0]


def test_levels_of_the_whole_length_are_those_of_a_plain_lottery() -> None:
    assert levels(2, level_steps="3ep") == levels(2)


def test_a_rewinding_step_after_the_end_of_a_level_is_refused() -> None:
    with pytest.raises(UsageError, match="rewinding_steps"):
        levels(1, level_steps="1ep", rewinding_steps="2ep")


def test_after_a_pretraining_the_levels_are_short_too() -> None:
    found = levels(2, level_steps="12it", pretrain_training_steps="1ep")

    assert [(desc.start.iteration, desc.end.iteration) for desc in found] == [(6, 12), (6, 12), (6, 18)]


@pytest.mark.parametrize("keeps", [False, True])
def test_weights_are_rewound_and_statistics_kept(tmp_path: Path, digits: Path, keeps: bool) -> None:
    place = context(tmp_path, digits)
    runs = [complete(desc, place).run for desc in levels(2, RESNET, level_steps="1ep", keep_statistics=keeps)]
    initial = run_of(train_desc(**RESNET), place)
    start = train_desc(**RESNET).start
    weights = runs[0].load_state(start)
    assert not initial.folder.exists()  # level 0 has the same initialization

    for before, after in itertools.pairwise(runs):
        state, trained = after.load_state(start), before.load_state(start.at(6))
        mask = mask_of(after)
        for name, tensor in state.items():
            if "running" in name or "num_batches" in name:
                assert torch.equal(tensor, trained[name] if keeps else weights[name])
            else:
                assert torch.equal(tensor, weights[name] * mask[name] if name in mask else weights[name])
    assert load_ref(runs[2], 1).desc == levels(2, RESNET, level_steps="1ep", keep_statistics=keeps)[2]


def test_statistics_of_the_very_state_that_is_trained_are_not_in_the_address() -> None:
    plain: BranchDesc = describe("finetune")
    same = replace(plain, statistics=plain.state)
    other = replace(plain, statistics=last_state(RunRef(train_desc(lr=0.2))))

    assert same.digest == plain.digest != other.digest
