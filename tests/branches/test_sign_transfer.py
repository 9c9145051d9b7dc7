"""AWS: a lottery without rewinding, and the signs of its levels on new magnitudes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from branches.desc import BranchDesc, BranchHparams
from branches.lottery.lottery import Lottery, LotteryHparams
from branches.named.branch import last_state
from branches.signs import with_signs
from foundations.description.desc import RunRef
from foundations.errors import UsageError
from foundations.storage.run import Run
from pruning.hparams import PruningHparams
from tests.branches.small_branches import describe, mask_of
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.context import Context
from training.job import initialized_model
from training.jobs.compute import complete

RESNET = {"model_name": "digits_resnet_8_4"}
END, OUTPUT = "18it", ("fc.weight", "fc.bias")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Context:
    return context(tmp_path_factory.mktemp("runs"), digits)


@pytest.fixture(scope="module")
def pruned(home: Context) -> Run:
    """A run with a mask of the convolutions, as AWS prunes them."""
    desc = oneshot_desc(density=0.3, parent=RESNET, pruning_layers_to_ignore="fc.weight")
    return complete(desc, home).run


def pruned_ref() -> RunRef:
    return RunRef(oneshot_desc(density=0.3, parent=RESNET, pruning_layers_to_ignore="fc.weight"))


def state(run: Run, step: str) -> dict[str, Tensor]:
    return run.load_state(train_desc().step(step))


@pytest.mark.parametrize("sign_output", [True, False])
def test_trained_signs_are_on_the_magnitudes_of_a_new_initialization(
    home: Context, pruned: Run, sign_output: bool
) -> None:
    run = complete(describe("sign_transfer", pruned_ref(), sign_output=sign_output, initialization=2), home).run

    mask, trained = mask_of(pruned), state(pruned, END)
    new = initialized_model(train_desc(**RESNET), "reinitialize", 1, 2).state_dict()
    for name, start in state(run, "0it").items():
        expected = new[name]
        if name in mask or (sign_output and name in OUTPUT):
            kept = mask[name].float() if name in mask else 1.0
            expected = expected.abs() * trained[name].sign() * kept
        assert torch.equal(start, expected), name
    assert mask_of(run) == mask  # no trained weight is exactly 0


def test_kept_weights_without_a_sign_leave_the_mask(pruned: Run) -> None:
    mask, trained = mask_of(pruned), state(pruned, END)
    name, kept = next(iter(mask.items()))
    trained[name][kept] = torch.cat([torch.zeros(1), trained[name][kept][1:]])

    found = with_signs(mask, trained)

    assert found.kept == mask.kept - 1
    assert torch.equal(found[name], trained[name] != 0)


def test_magnitudes_may_come_from_a_run(home: Context, pruned: Run) -> None:
    main = RunRef(train_desc(**RESNET))

    run = complete(describe("sign_transfer", pruned_ref(), state_experiment=main, state_step="3ep"), home).run

    magnitudes, signs = state(run_of(train_desc(**RESNET), home), END), state(pruned, END)
    for name, kept in mask_of(run).items():
        assert torch.equal(state(run, "0it")[name], magnitudes[name].abs() * signs[name].sign() * kept)


def test_signs_of_a_dense_run_are_refused() -> None:
    with pytest.raises(UsageError, match="pruned run"):
        describe("sign_transfer", RunRef(train_desc()))


def lottery(**flags: Any) -> Lottery:
    return Lottery(train_desc(**RESNET), PruningHparams(), LotteryHparams(**flags))


def test_with_learning_rate_rewinding_each_level_trains_the_last_weights_on() -> None:
    levels = dict(lottery(rewind="learning_rate", rewinding_steps="1ep", dense_steps="1ep").levels(2))

    assert levels[0].end == train_desc().step("1ep")
    for number in (1, 2):
        level, before = levels[number], levels[number - 1]
        assert isinstance(level, BranchDesc)
        assert level.state == level.scored == last_state(RunRef(before))
        assert level.branch == BranchHparams(start_step="6it")
    whole = dict(lottery(rewind="learning_rate", rewinding_steps="1ep").levels(1))
    alone = describe("lr_rewind", RunRef(train_desc(**RESNET)), rewind_step="1ep", prune_fraction=1 - 0.8)
    assert whole[1].digest == alone.digest


def test_the_default_lottery_has_the_addresses_of_one_that_rewinds_weights() -> None:
    plain, named = lottery(), lottery(rewind="weights")

    assert [desc.digest for _, desc in plain.levels(2)] == [desc.digest for _, desc in named.levels(2)]


def test_a_branch_of_a_level_without_rewinding_starts_from_its_weights() -> None:
    described = lottery(rewind="learning_rate")
    level = dict(described.levels(2))[2]
    assert isinstance(level, BranchDesc)

    branch = describe("randomly_prune", described.as_parent(level))

    assert branch.state == level.state


def test_trained_weights_of_a_new_initialization_are_refused() -> None:
    with pytest.raises(UsageError, match="no trained weights"):
        LotteryHparams(rewind="learning_rate", reinitialize=True)


def test_a_lottery_with_lamp_keeps_its_counts(home: Context) -> None:
    pruning = PruningHparams.of({"allocation": "lamp"})
    described = Lottery(train_desc(), pruning, LotteryHparams(rewind="learning_rate"))

    masks = [mask_of(complete(desc, home).run) for number, desc in described.levels(2) if number]

    assert masks[1].intersection(masks[0]) == masks[1]
    assert [mask.density for mask in masks] == pytest.approx([0.8, 0.64], abs=1e-3)
