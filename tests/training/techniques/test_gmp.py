"""Gradual magnitude pruning, as a technique."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.description.hparams import help_of
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.masks.mask import Mask
from tests.training.small_runs import context, train_desc
from tests.training.techniques.toy_training import run, step, toy_training
from training.hparams import TechniquesHparams
from training.jobs.compute import complete
from training.techniques.gmp import GmpHparams


def hparams(**flags: Any) -> GmpHparams:
    """Return the hyperparameters of gmp in a training of 18 steps."""
    ((_, found),) = TechniquesHparams.of({"technique": "gmp", **flags}).for_training(step(18), has_mask=False).parts
    assert isinstance(found, GmpHparams)
    return found


def levels(found: GmpHparams) -> dict[int, float]:
    prunings = found.prunings(step(0))
    steps = [t for t in range(19) if prunings.has(step(t)) or step(t) == prunings.end]
    return {t: found.level_at(step(t)) for t in steps}


def test_the_level_follows_the_cubic_of_zhu_and_gupta() -> None:
    found = levels(hparams(gmp_begin="3it", gmp_end="15it", gmp_frequency="3it", gmp_prune_fraction=0.9))

    assert found == {t: pytest.approx(0.9 + (0 - 0.9) * (1 - (t - 3) / 12) ** 3) for t in (3, 6, 9, 12, 15)}


def test_the_curve_of_phew_prunes_at_once_and_reaches_the_level_at_the_last_of_its_prunings() -> None:
    # One epoch of training after each of E = 5 prunings: p_e = p - p (1 - e / E)^3 for e = 1..5.
    flags = {"gmp_begin": "0it", "gmp_end": "12it", "gmp_frequency": "3it", "gmp_prune_fraction": 0.9}
    found = levels(hparams(**flags, gmp_curve="phew"))

    assert found == {3 * (e - 1): pytest.approx(0.9 - 0.9 * (1 - e / 5) ** 3) for e in (1, 2, 3, 4, 5)}


def test_the_curve_of_jaxpruner_is_a_step_ahead() -> None:
    """PolynomialSchedule: s = s_f (1 - (1 - (t + 1 - begin) / (end - begin))^3), clipped."""
    found = levels(
        hparams(gmp_begin="3it", gmp_end="15it", gmp_frequency="4it", gmp_density=0.1, gmp_curve="jaxpruner")
    )

    assert found == {t: pytest.approx(0.9 * (1 - (1 - min(1, (t + 1 - 3) / 12)) ** 3)) for t in (3, 7, 11, 15)}


def test_the_curve_of_granet_leaves_the_last_pruning_out_and_keeps_a_weight_fewer() -> None:
    """From the code: s of t // dt, int(N (1 - s)) weights less one; the end is d + (1 - d) / n^3 for n prunings."""
    training = toy_training(density=None)
    kept: dict[int, int] = {}

    def note(at: Step) -> None:
        assert training.mask is not None
        kept[at.iteration] = training.mask.kept

    run(
        training, 18, [note], technique="gmp", gmp_end="12it", gmp_frequency="4it", gmp_density=0.25, gmp_curve="granet"
    )

    total = kept[0]
    first, second = (int(total * (1 - 0.75 * (1 - (1 - c / 3) ** 3))) - 1 for c in (1, 2))
    assert [kept[t] for t in range(19)] == [total] * 4 + [first] * 4 + [second] * 11
    assert second == int(total * (0.25 + 0.75 / 27)) - 1


@pytest.mark.parametrize("curve", ["zhu_gupta", "phew", "jaxpruner"])
def test_the_last_pruning_comes_at_the_end_even_off_the_beat(curve: str) -> None:
    found = levels(hparams(gmp_begin="0it", gmp_end="10it", gmp_frequency="4it", gmp_curve=curve))

    assert list(found) == [0, 4, 8, 10]
    assert sorted(found.values()) == list(found.values())
    assert found[10] == 0.8


def test_weights_of_least_magnitude_are_pruned_at_each_step_of_the_schedule() -> None:
    training = toy_training(density=None)
    masks: dict[int, Mask] = {}
    magnitudes: dict[int, torch.Tensor] = {}

    def note(at: Step) -> None:
        assert training.mask is not None
        masks[at.iteration] = training.mask
        magnitudes[at.iteration] = torch.cat([w.abs().flatten() for w in training.weights.values()])

    run(training, 18, [note], technique="gmp", gmp_end="12it", gmp_frequency="4it", gmp_density=0.25)

    total = masks[0].total
    assert [masks[t].kept for t in range(19)] == [
        total - round(total * (0.75 * (1 - (1 - min(12, t // 4 * 4) / 12) ** 3))) for t in range(19)
    ]
    for t in (4, 8, 12):
        kept = torch.cat([mask.flatten() for mask in masks[t].values()])
        assert masks[t].intersection(masks[t - 1]) == masks[t]
        assert int((magnitudes[t] > 0).sum()) == int(kept.sum())


def test_any_strategy_with_its_own_options_can_take_the_place_of_magnitude(tmp_path: Path, digits: Path) -> None:
    flags = {"gmp_strategy": "snip2", "gmp_density": 0.1, "gmp_end": "2ep", "gmp_frequency": "3it"}
    plain, per_batch = (
        train_desc(technique="gmp", **flags, **options)
        for options in ({}, {"gmp_score_per_batch": True, "gmp_score_batch_size": 5})
    )

    outcomes = [complete(desc, context(tmp_path, digits)) for desc in (plain, per_batch)]

    masks = [Mask.from_tensors(*outcome.run.load_mask()) for outcome in outcomes]
    assert masks[0].kept == masks[1].kept == round(masks[0].total * 0.1)
    assert masks[0] != masks[1]


@pytest.mark.parametrize("at", ["0it", "6it"])
def test_the_report_has_the_statistics_of_the_scores_of_the_last_pruning(at: str, tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path, digits)
    plain = train_desc()
    gmp = complete(train_desc(technique="gmp", gmp_begin=at, gmp_end=at, gmp_density=0.5), place)

    state = complete(plain, place, [plain.step(at)]).run.load_state(plain.step(at))

    report = gmp.run.sparsity()
    assert report is not None
    for name, layer in report["layers"].items():
        assert layer["scores"]["abs_sum"] == pytest.approx(float(state[name].double().abs().sum()), rel=1e-5)


def test_a_mask_that_moves_after_it_was_scored_has_no_statistics_of_scores(tmp_path: Path, digits: Path) -> None:
    moving = {"mask_update_frequency": "3it", "mask_update_end": "15it"}
    desc = train_desc(technique="gmp,rigl", gmp_end="9it", gmp_frequency="3it", gmp_density=0.5, **moving)

    report = complete(desc, context(tmp_path, digits)).run.sparsity()

    assert report is not None
    assert not any("scores" in layer for layer in report["layers"].values())


def test_the_help_says_what_gradual_pruning_refuses() -> None:
    texts = help_of(GmpHparams.group_for({}))

    refused = [name for name, text in texts.items() if text.startswith("Not possible")]
    assert refused == ["gmp_effective_density", "gmp_structure", "gmp_structure_uneven"]
    assert texts["gmp_density"] == "As --density of a branch, for gradual pruning."


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"gmp_frequency": "0it"}, "^gmp_frequency: "),
        ({"gmp_begin": "10it", "gmp_end": "9it"}, "^gmp_begin, gmp_end: "),
        ({"gmp_end": "19it"}, "^gmp_begin, gmp_end: "),
        ({"gmp_strategy": "phew"}, "^gmp_strategy: phew builds its mask at once"),
        ({"gmp_strategy": "magnitud"}, "^gmp_strategy: 'magnitud' is not a valid value"),
        ({"gmp_density": 0.5, "gmp_compression": 3.0}, "^gmp_"),
        ({"gmp_prune_fraction": 0.0}, "^gmp_prune_fraction: it prunes nothing"),
        ({"gmp_density": 1.0}, "^gmp_density: it prunes nothing"),
        ({"gmp_structure": "2:4"}, "^gmp_structure: .* takes structure=2:4; the technique srste learns such a mask"),
        ({"gmp_curve": "granet", "gmp_end": "8it", "gmp_frequency": "5it"}, "^gmp_curve, gmp_frequency: granet leaves"),
    ],
)
def test_what_cannot_be_names_its_hyperparameters(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hparams(**flags)
