"""The prunable weights of branches, lotteries and gradual pruning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.description.desc import RunRef
from pruning.hparams import PruningHparams
from pruning.level import kept_of
from pruning.masks.mask import Mask
from tests.branches.small_branches import describe
from tests.branches.small_branches import mask_of as kept_mask
from tests.training.small_runs import context, oneshot_desc, train_desc
from training.context import Context
from training.jobs.compute import complete

RESNET: dict[str, Any] = {"model_name": "digits_resnet_8_2", "training_steps": "1ep"}


@pytest.fixture
def place(tmp_path: Path, digits: Path) -> Context:
    return context(tmp_path, digits)


def mask_of(desc: Any, place: Context) -> Mask:
    return kept_mask(complete(desc, place).run)


def test_only_convolutions_are_pruned_counted_and_reported(place: Context) -> None:
    desc = oneshot_desc("magnitude", RESNET, density=0.3, prunable_layers="convolutions")

    outcome = complete(desc, place)
    mask, report = kept_mask(outcome.run), outcome.run.sparsity()

    assert "fc.weight" not in mask
    assert report is not None
    assert mask.kept == kept_of(mask.total, 0.7) == report["requested"]["kept"] == report["achieved"]["kept"]
    assert outcome.manifest.results["density"] == pytest.approx(0.3, abs=1e-3)


def test_a_mask_of_more_than_is_prunable_keeps_the_rest_as_it_is(place: Context) -> None:
    whole = oneshot_desc("magnitude", RESNET, density=0.5)
    convolutions = describe("oneshot", RunRef(whole), density=0.2, prunable_layers="convolutions")

    before, after = mask_of(whole, place), mask_of(convolutions, place)

    total, kept = (sum(counts) - count for counts, count in _counts(after))
    assert after["fc.weight"].equal(before["fc.weight"])
    assert kept == kept_of(total, 0.8)


def _counts(mask: Mask) -> list[tuple[list[int], int]]:
    sizes, kept = {name: tensor.numel() for name, tensor in mask.items()}, mask.kept_per_layer()
    return [(list(found.values()), found["fc.weight"]) for found in (sizes, kept)]


def test_each_level_of_a_lottery_prunes_every_tensor_by_the_same_share_scales_included(place: Context) -> None:
    pruning = PruningHparams(allocation="uniform", prune_batchnorm=True)
    lottery = Lottery(train_desc(**RESNET), pruning, LotteryHparams(pruning_fraction=0.5))

    masks = [mask_of(desc, place) for level, desc in lottery.levels(2) if level]

    for mask, density in zip(masks, (0.5, 0.25), strict=True):
        assert "bn.weight" in mask
        assert all(abs(kept - density * mask[name].numel()) <= 1 for name, kept in mask.kept_per_layer().items())
    assert masks[1].intersection(masks[0]) == masks[1]
    assert all(not tensor[~masks[1][name]].any() for name, tensor in _last_state(lottery, place).items())


def _last_state(lottery: Lottery, place: Context) -> dict[str, Any]:
    *_, (_, last) = lottery.levels(2)
    run = complete(last, place).run
    return {name: tensor for name, tensor in run.load_state(last.end).items() if name in kept_mask(run)}


def test_gradual_pruning_counts_what_is_prunable(place: Context) -> None:
    gmp = {"technique": "gmp", "gmp_density": 0.2, "gmp_prunable_layers": "convolutions", "gmp_frequency": "1it"}
    new = train_desc(**RESNET, **gmp)
    within = oneshot_desc("magnitude", RESNET, density=0.9, **gmp)

    first, second = (mask_of(desc, place) for desc in (new, within))

    assert "fc.weight" not in first
    assert first.kept == kept_of(first.total, 0.8)
    total, kept = (sum(counts) - count for counts, count in _counts(second))
    assert kept == kept_of(total, 0.8)


def test_skips_are_spared_by_a_pattern_and_still_count(place: Context) -> None:
    flags = {"technique": "ghost_skips", "pruning_layers_to_ignore": "*conv_jump*"}

    mask = mask_of(oneshot_desc("magnitude", RESNET, density=0.4, **flags), place)

    jumps = [name for name in mask if "conv_jump" in name]
    assert len(jumps) == 6
    assert all(bool(mask[name].all()) for name in jumps)
    assert mask.kept == kept_of(mask.total, 0.6)


def test_the_defaults_stand_in_no_address() -> None:
    plain = oneshot_desc("magnitude", density=0.4)
    written = oneshot_desc("magnitude", density=0.4, prunable_layers="all", prune_bias=False, prune_batchnorm=False)

    assert plain.digest == written.digest
    assert plain.digest != oneshot_desc("magnitude", density=0.4, prune_bias=True).digest
    assert train_desc(weight_decay=0.0, no_batchnorm_decay=True).digest == train_desc(weight_decay=0.0).digest
    assert train_desc(no_batchnorm_decay=True).digest != train_desc().digest
