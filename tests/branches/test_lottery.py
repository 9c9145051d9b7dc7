"""The lottery: its levels, its branches, and how much it computes."""

import itertools

import pytest
import torch

from branches.lineage import job_of
from branches.lottery import (
    Lottery,
    LotteryHparams,
    RandomlyPruneHparams,
    RandomlyReinitializeHparams,
    parse_levels,
    prepare,
    randomly_prune,
    randomly_reinitialize,
)
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.mask import Mask
from tests.branches.small_branches import Counter, describe
from tests.training.small_runs import context, train_desc
from training.execution import complete


def lottery(**flags):
    return Lottery(train_desc(), PruningHparams(), LotteryHparams(**flags))


def compute(described, place, last):
    prepare(described, place)
    return [complete(desc, place) for _, desc in described.levels(last)]


def mask_of(outcome):
    return Mask.from_tensors(*outcome.run.load_mask())


@pytest.mark.parametrize(
    ("text", "levels"), [("3", [3]), ("0-2,5", [0, 1, 2, 5]), ("8-12", [8, 9, 10, 11, 12]), ("1,1-2", [1, 2])]
)
def test_levels_are_written_as_openlth_writes_them(text, levels):
    assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["", "-1", "2-1", "1-2-3", "a", "1,,2"])
def test_what_is_no_list_of_levels_is_refused(text):
    with pytest.raises(UsageError, match="--levels"):
        parse_levels(text)


def test_each_level_prunes_a_fifth_of_what_the_one_before_kept_within_its_mask(tmp_path, digits):
    place = context(tmp_path, digits)

    levels = compute(lottery(), place, 3)

    masks = [mask_of(level) for level in levels[1:]]
    assert [mask.density for mask in masks] == pytest.approx([0.8, 0.64, 0.512], abs=1e-3)
    assert all(after.intersection(before) == after for before, after in itertools.pairwise(masks))
    initial = run_of(train_desc(), place).load_state(train_desc().start)
    for level, mask in zip(levels[1:], masks, strict=True):
        rewound = level.run.load_state(train_desc().start)
        assert all(torch.equal(rewound[name], initial[name] * mask[name]) for name in mask)


def test_level_0_is_the_training_and_level_1_a_lottery_rewind():
    levels = [desc for _, desc in lottery(rewinding_steps="1ep").levels(1)]

    assert levels[0].digest == train_desc().digest
    assert levels[1].digest == describe("lottery_rewind", rewind_step="6it", prune_fraction=0.2).digest


def test_one_shot_prunes_every_level_from_the_dense_training():
    levels = [desc for _, desc in lottery(one_shot=True).levels(3)]

    assert [level.branch.prune_experiment for level in levels[1:]] == ["main"] * 3


def test_pretraining_gives_the_weights_and_counts_as_part_of_the_training(tmp_path, digits):
    place = context(tmp_path, digits)
    described = lottery(pretrain_training_steps="1ep", pretrain_random_labels_fraction=1.0)

    levels = compute(described, place, 1)

    pretraining = described.pretraining()
    pretrained = job_of(pretraining).run(place).load_state(pretraining.end)
    start = train_desc().step("6it")
    first = levels[0].run.load_state(start)
    assert all(torch.equal(first[name], tensor) for name, tensor in pretrained.items())
    assert (described.dense()).start == start


def test_pretraining_flags_without_a_length_are_refused():
    with pytest.raises(UsageError, match="--pretrain_lr: without --pretrain_training_steps"):
        lottery(pretrain_lr=0.1)


def test_branches_of_a_level_randomize_its_mask_or_its_weights(tmp_path, digits):
    place = context(tmp_path, digits)
    described = lottery(rewinding_steps="4it")
    level = list(described.levels(2))[2][1]
    outcome = compute(described, place, 2)[2]

    layerwise = complete(job_of(randomly_prune(described, level, RandomlyPruneHparams())), place)
    overall = complete(job_of(randomly_prune(described, level, RandomlyPruneHparams(randomize="global"))), place)
    same = complete(job_of(randomly_prune(described, level, RandomlyPruneHparams(randomize="identity"))), place)
    fresh = complete(job_of(randomly_reinitialize(described, level, RandomlyReinitializeHparams())), place)

    original = mask_of(outcome)
    assert mask_of(layerwise).kept_per_layer() == original.kept_per_layer() != mask_of(overall).kept_per_layer()
    assert mask_of(overall).kept == original.kept
    assert mask_of(layerwise) != original
    assert mask_of(same) == mask_of(fresh) == original
    step = train_desc().step("4it")
    name = next(iter(original))
    assert torch.equal(same.run.load_state(step)[name], outcome.run.load_state(step)[name])
    assert not torch.equal(fresh.run.load_state(step)[name], outcome.run.load_state(step)[name])


def test_a_longer_lottery_computes_only_its_new_levels(tmp_path, digits):
    counter = Counter()
    place = context(tmp_path, digits, reporter=counter)
    compute(lottery(), place, 2)
    before = counter.iterations

    compute(lottery(), place, 3)

    assert (before, counter.iterations) == (3 * 18, 4 * 18)
