"""The lottery: its levels, its branches, and how much it computes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.desc import BranchDesc
from branches.lottery.lottery import Lottery, LotteryHparams, parse_levels
from branches.lottery.randomly_prune import RandomlyPruneFlags, randomly_prune
from branches.lottery.randomly_reinitialize import RandomlyReinitializeFlags, randomly_reinitialize
from foundations.description.desc import Desc, RunRef
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from tests.branches.small_branches import Counter, describe, mask_of
from tests.training.small_runs import context, run_of, train_desc
from training.context import Context
from training.hparams import TechniquesHparams
from training.jobs.compute import Outcome, complete

PRUNING = PruningHparams()


def lottery(**flags: Any) -> Lottery:
    return Lottery(train_desc(), PruningHparams.of({}), LotteryHparams(**flags))


def lottery_with(technique: dict[str, Any], **flags: Any) -> Lottery:
    main = replace(train_desc(), techniques=TechniquesHparams.of(technique))
    return Lottery(main, PruningHparams.of({}), LotteryHparams(**flags))


def level(described: Lottery, number: int) -> Desc:
    return dict(described.levels(number))[number]


def compute(described: Lottery, place: Context, last: int) -> list[Outcome]:
    return [complete(desc, place) for _, desc in described.levels(last)]


@pytest.mark.parametrize(
    ("text", "levels"), [("3", [3]), ("0-2,5", [0, 1, 2, 5]), ("8-12", [8, 9, 10, 11, 12]), ("1,1-2", [1, 2])]
)
def test_levels_are_written_as_openlth_writes_them(text: str, levels: list[int]) -> None:
    assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["", "-1", "2-1", "1-2-3", "a", "1,,2"])
def test_what_is_no_list_of_levels_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="^levels: "):
        parse_levels(text)


def test_each_level_prunes_a_fifth_of_what_the_one_before_kept_within_its_mask(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)

    levels = compute(lottery(), place, 3)

    masks = [mask_of(outcome.run) for outcome in levels[1:]]
    assert [mask.density for mask in masks] == pytest.approx([0.8, 0.64, 0.512], abs=1e-3)
    assert all(after.intersection(before) == after for before, after in itertools.pairwise(masks))
    initial = run_of(train_desc(), place).load_state(train_desc().start)
    for outcome, mask in zip(levels[1:], masks, strict=True):
        rewound = outcome.run.load_state(train_desc().start)
        assert all(torch.equal(rewound[name], initial[name] * mask[name]) for name in mask)


def test_level_0_is_the_training_and_level_1_a_lottery_rewind() -> None:
    levels = [desc for _, desc in lottery(rewinding_steps="1ep").levels(1)]

    assert levels[0].digest == train_desc().digest
    assert levels[1].digest == describe("lottery_rewind", rewind_step="6it", prune_fraction=0.2).digest


def test_levels_that_were_described_twice_are_equal_at_once_however_many_precede_them() -> None:
    once, twice = ([RunRef(desc) for _, desc in lottery().levels(60)] for _ in range(2))

    assert once == twice
    assert len({*once, *twice}) == 61


def test_one_shot_prunes_every_level_from_the_dense_training() -> None:
    levels = [desc for _, desc in lottery(one_shot=True).levels(3)]

    assert [desc.sources()["scored"].run.desc for desc in levels[1:]] == [train_desc()] * 3
    assert all("mask" not in desc.sources() for desc in levels)


def test_openlths_rounding_is_of_one_shot_alone_since_levels_are_shares_of_all_weights() -> None:
    pruning = PruningHparams.of({"rounding": "openlth"})
    one_shot = Lottery(train_desc(), pruning, LotteryHparams(one_shot=True))
    assert all(
        desc.pruning and desc.pruning.rounding == "openlth"
        for _, desc in one_shot.levels(2)
        if isinstance(desc, BranchDesc)
    )
    with pytest.raises(UsageError, match="add one_shot"):
        Lottery(train_desc(), pruning, LotteryHparams())


def test_pretraining_gives_the_weights_and_counts_as_part_of_the_training(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    described = lottery(pretrain_training_steps="1ep", pretrain_random_labels_fraction=1.0)

    levels = compute(described, place, 1)

    pretraining = described.pretraining
    assert pretraining is not None
    pretrained = run_of(pretraining, place).load_state(pretraining.end)
    start = train_desc().step("6it")
    first = levels[0].run.load_state(start)
    assert all(torch.equal(first[name], tensor) for name, tensor in pretrained.items())
    assert described.dense().start == start


def test_pretraining_flags_without_a_length_are_refused() -> None:
    with pytest.raises(UsageError, match="^pretrain_lr: without pretrain_training_steps"):
        lottery(pretrain_lr=0.1)


def test_branches_of_a_level_randomize_its_mask_or_its_weights(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    described = lottery(rewinding_steps="4it")
    parent = described.as_parent(level(described, 2))
    outcome = compute(described, place, 2)[2]

    def pruned(randomize: str) -> Outcome:
        return complete(randomly_prune(parent, PRUNING, RandomlyPruneFlags(randomize=randomize)), place)

    layerwise, overall, same = pruned("layerwise"), pruned("global"), pruned("identity")
    fresh = complete(randomly_reinitialize(parent, PRUNING, RandomlyReinitializeFlags()), place)

    original = mask_of(outcome.run)
    assert mask_of(layerwise.run).kept_per_layer() == original.kept_per_layer() != mask_of(overall.run).kept_per_layer()
    assert mask_of(overall.run).kept == original.kept
    assert mask_of(layerwise.run) != original
    assert mask_of(same.run) == mask_of(fresh.run) == original
    step = train_desc().step("4it")
    name = next(iter(original))
    assert torch.equal(same.run.load_state(step)[name], outcome.run.load_state(step)[name])
    assert not torch.equal(fresh.run.load_state(step)[name], outcome.run.load_state(step)[name])


def test_a_longer_lottery_computes_only_its_new_levels(tmp_path: Path, digits: Path) -> None:
    counter = Counter()
    place = context(tmp_path, digits, reporter=counter)
    compute(lottery(), place, 2)
    before = counter.iterations

    compute(lottery(), place, 3)

    assert (before, counter.iterations) == (3 * 18, 4 * 18)


def test_a_seed_pins_the_permutation_of_a_levels_mask_for_all_replicates(tmp_path: Path, digits: Path) -> None:
    def masks(seed: int, replicate: int) -> tuple[Mask, Mask]:
        """Return the branch's mask and the level's."""
        described = lottery()
        place, parent = context(tmp_path, digits, replicate=replicate), level(described, 1)
        flags = RandomlyPruneFlags(seed=seed)
        outcome = complete(randomly_prune(described.as_parent(parent), PRUNING, flags), place)
        return mask_of(outcome.run), mask_of(run_of(parent, place))

    for seed, replicate in ((7, 1), (7, 2), (8, 1)):
        permuted, original = masks(seed, replicate)
        assert permuted == original.shuffled_layerwise(seed)
    assert masks(7, 1) != masks(8, 1)


@pytest.mark.parametrize(
    ("technique", "words"),
    [
        ({"technique": "acdc", "acdc_density": 0.5}, "may end with a density of 0.5, and level 1 is to keep 0.8"),
        ({"technique": "gmp", "gmp_density": 0.1}, "may end with a density of 0.1"),
        ({"technique": "topkast", "topkast_density": 0.2}, "may end with a density of 0.2"),
        ({"technique": "srste", "srste_structure": "1:4"}, "may end with a density of 0.25"),
        ({"technique": "str"}, "learns its mask, which may have any density"),
        ({"technique": "rigl", "start_density": 0.7, "mask_update_frequency": "2it"}, "may end with a density of 0.7"),
    ],
)
def test_a_technique_that_leaves_fewer_weights_than_level_1_keeps_is_refused_before_level_0(
    technique: dict[str, Any], words: str
) -> None:
    described = lottery_with(technique)

    with pytest.raises(UsageError, match=words) as refusal:
        next(described.levels(1))

    assert refusal.value.hparams == ("technique", "pruning_fraction")
    assert len(list(described.levels(0))) == 1


@pytest.mark.parametrize(
    "technique",
    [
        {"technique": "acdc", "acdc_density": 0.9, "acdc_prune_at": "1it,9it", "acdc_restore_at": "4it"},
        {"technique": "srste", "srste_structure": "3:4"},
        {"technique": "itop", "start_density": 0.9, "start_allocation": "uniform", "mask_update_frequency": "2it"},
        {"technique": "powerpropagation,set", "start_density": 0.9, "mask_update_frequency": "2it"},
    ],
)
def test_a_technique_that_leaves_enough_weights_acts_at_each_level(
    technique: dict[str, Any], tmp_path: Path, digits: Path
) -> None:
    fraction = 0.3

    _, first, second = compute(lottery_with(technique, pruning_fraction=fraction), context(tmp_path, digits), 2)

    masks = [mask_of(each.run) for each in (first, second)]
    wanted = [(1 - fraction) ** level for level in (1, 2)]
    assert all(mask.density <= density + 1e-3 for mask, density in zip(masks, wanted, strict=True))


def test_a_new_initialization_is_trained_from_the_rewinding_step_or_from_step_zero(
    tmp_path: Path, digits: Path
) -> None:
    place, described = context(tmp_path, digits), lottery(rewinding_steps="4it")
    parent = described.as_parent(level(described, 1))

    late, whole = (
        complete(randomly_reinitialize(parent, PRUNING, RandomlyReinitializeFlags(start_at_step_zero=zero)), place).run
        for zero in (False, True)
    )

    assert [[step.iteration for step in run.kept_states(6)] for run in (late, whole)] == [[4, 18], [0, 18]]
    first, last = late.load_state(train_desc().step("4it")), late.load_state(train_desc().end)
    assert all(torch.equal(tensor, first[name]) for name, tensor in whole.load_state(train_desc().start).items())
    assert any(not torch.equal(tensor, last[name]) for name, tensor in whole.load_state(train_desc().end).items())
