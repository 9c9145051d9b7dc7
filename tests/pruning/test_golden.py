"""Scores and masks against those that published code computed. `published.py` says how each scores and counts.

All cases found are compared. Ours prunes exactly the number of weights that is asked for. Other code bases prune
one or two more or fewer, so masks are compared at the published counts and again at ours.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning.level import kept_of
from pruning.masks.mask import Mask
from pruning.paths.connectivity import channel_mask
from pruning.paths.graph import Graph, trace
from pruning.prune import prune
from pruning.registry import SCHEDULES
from pruning.schedules.iterations import Schedule
from tests.conftest import REPOSITORY
from tests.pruning.golden import Case, assert_scores_agree, cases_of, cases_where, difference
from tests.pruning.published import (
    PUBLISHED,
    kept_by_fork,
    kept_by_grasp,
    kept_by_openlth,
    kept_by_ours,
    kept_by_phew,
    kept_by_synaptic_flow,
)

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")

IN_REPOSITORY = REPOSITORY / "tests" / "golden"
RANDOM = cases_where(lambda case: case.description["method"] == "random")
SCORED = [name for name in cases_of("pruning") if name not in RANDOM and Case(name).is_of_published]
ONE_SHOT = [name for name in SCORED if len(Case(name).counts) == 1]
ITERATIVE = [name for name in SCORED if name not in ONE_SHOT]


def pruned_to(case: Case, counts: list[int]) -> tuple[Mask, list[dict[str, torch.Tensor]]]:
    """Prune to each of `counts` in turn; return the mask and the scores of every iteration."""
    model, scores = case.model(), []
    options = {"on_iteration": lambda _number, _mask, found: scores.append(found), **case.scoring}
    if case.description["method"] != "synflow_l2":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Schedule, "counts", lambda *_: counts)
            return prune(model, case.strategy, keep=counts[-1], iterations=len(counts), **options), scores
    graph, mask = trace(model, case.input_shape), None
    for keep in counts:
        if mask is not None:
            silence_units_without_weights(model, mask, graph)
        mask = prune(model, case.strategy, keep=keep, mask=mask, **options)
    assert mask is not None
    return mask, scores


def silence_units_without_weights(model: nn.Module, mask: Mask, graph: Graph) -> None:
    """Zero the biases of units that no kept weight leads into, as the PHEW repository does between iterations."""
    channels = channel_mask(graph, mask)
    biases = {name.removesuffix("weight") + "bias" for name in mask}
    Mask({name: kept for name, kept in channels.items() if name in biases}).apply_(model)


def test_the_repository_carries_a_case_of_every_published_method_within_10_megabytes() -> None:
    carried = {folder.name for folder in IN_REPOSITORY.iterdir() if folder.is_dir()}
    assert {Case(name).published.strategy for name in carried.intersection(SCORED)} == {
        published.strategy for published in PUBLISHED.values()
    }
    kinds = {"pruning_rounds", "phew_statistics", "layerwise_shuffle_counts", "training"}
    assert kinds <= {Case(name).description["kind"] for name in carried}
    assert carried.intersection(RANDOM)
    assert sum(file.stat().st_size for file in IN_REPOSITORY.rglob("*")) <= 10e6


@pytest.mark.parametrize("name", SCORED)
def test_scores_and_masks_are_those_of_the_published_code(name: str) -> None:
    case = Case(name)
    mask, scores = pruned_to(case, case.counts)
    factor = case.published.factor(case.description)
    if case.has("scores"):
        assert_scores_agree(scores[-1], case.tensors("scores"), factor, case.tolerance)
    if case.has("scores_first_iteration"):
        assert_scores_agree(scores[0], case.tensors("scores_first_iteration"), factor, case.tolerance)
    assert difference(mask, case.mask()) == (0, 0)


@pytest.mark.parametrize("name", [name for name in SCORED if not Case(name).has_ties])
def test_the_published_counts_follow_the_rule_of_their_code(name: str) -> None:
    case = Case(name)
    assert case.counts_of_rule[-len(case.recorded_counts) :] == case.recorded_counts
    assert case.counts_of_rule[-1] == case.mask().kept


@pytest.mark.parametrize("name", ONE_SHOT)
def test_masks_of_one_shot_differ_by_the_counts_alone(name: str) -> None:
    case = Case(name)
    mask = prune(case.model(), case.strategy, fraction=case.options["prune_fraction"], **case.scoring)
    ours, theirs = kept_by_ours(case.total, case.options["prune_fraction"]), case.counts[-1]
    assert mask.kept == ours
    assert difference(mask, case.mask()) == (max(0, ours - theirs), max(0, theirs - ours))


@pytest.mark.parametrize(
    "name", [name for name in ONE_SHOT if name.startswith("fork") and not Case(name).options["prune_highest"]]
)
def test_ours_keeps_the_weight_at_the_forks_threshold(name: str) -> None:
    case = Case(name)
    mask = prune(case.model(), case.strategy, fraction=case.options["prune_fraction"], **case.scoring)
    at_threshold = case.description["weights_exactly_at_last_threshold"]
    if case.has_ties:
        only_ours = mask.intersection(case.mask().invert())
        weights = dict(case.model().named_parameters())
        tied = {weights[name][kept].abs().unique().item() for name, kept in only_ours.items() if kept.any()}
        assert tied == {case.description["steps"][-1]["threshold"]}
    else:
        ((weight, index),) = at_threshold
        assert mask[weight].flatten()[index]
        assert not case.mask()[weight].flatten()[index]


@pytest.mark.parametrize("name", [name for name in ITERATIVE if Case(name).strategy == "magnitude"])
def test_masks_of_iterated_magnitude_differ_by_the_counts_alone(name: str) -> None:
    case = Case(name)
    fraction, iterations = case.options["prune_fraction"], len(case.counts)
    mask = prune(case.model(), "magnitude", fraction=fraction, iterations=iterations)
    ours, theirs = kept_by_ours(case.total, fraction), case.counts[-1]
    assert mask.kept == ours
    assert difference(mask, case.mask()) == (max(0, ours - theirs), max(0, theirs - ours))


@pytest.mark.parametrize("name", ITERATIVE)
def test_our_counts_follow_the_schedule_to_the_nearest_whole_number(name: str) -> None:
    case = Case(name)
    target, iterations = kept_by_ours(case.total, case.options["prune_fraction"]), len(case.counts)
    counts = SCHEDULES.find("exponential").counts(case.total, target, iterations)
    exact = [case.total * (target / case.total) ** (done / iterations) for done in range(1, iterations + 1)]
    assert counts[-1] == target
    assert all(abs(count - share) <= 0.5 + 1e-6 for count, share in zip(counts, exact, strict=True))


@given(st.integers(2000, 10**7), st.integers(1, 99))
def test_the_fork_prunes_one_or_two_weights_more_than_ours_and_others_at_most_two_fewer(
    total: int, percent: int
) -> None:
    fraction = percent / 100
    ours = total - kept_of(total, fraction)
    assert ours == total - kept_by_ours(total, fraction)
    fork = {"prune_fraction": fraction, "prune_iterations": 1, "prune_highest": False}
    assert total - kept_by_fork(total, fork)[0] - ours in (1, 2)
    assert total - kept_by_fork(total, fork | {"prune_highest": True})[0] - ours in (0, 1)
    floor = {"prune_fraction": fraction, "density": 1 - fraction, "prune_iterations": 1}
    assert total - kept_by_synaptic_flow(total, floor)[0] - ours in (-1, 0)
    assert total - kept_by_grasp(total, floor)[0] - ours in (-2, -1)
    assert total - kept_by_phew(total, floor)[0] - ours in (-1, 0, 1)


@pytest.mark.parametrize("name", cases_where(lambda case: "vgg_shifted" in case.name and case.name.startswith("fork")))
def test_the_forks_means_of_both_signs_keep_other_weights_than_absolute_ones(name: str) -> None:
    case = Case(name)
    mask = prune(case.model(), "synflow", keep=case.counts[-1], input_shape=case.input_shape)
    assert difference(mask, case.mask())[0] > 0


def test_one_weight_less_after_the_first_iteration_changes_a_third_of_an_iterated_snip_mask() -> None:
    """Checks a sentence of the README: published masks of such methods need the published counts."""
    case = Case("fork_snip_p050_lenet")
    target = kept_by_ours(case.total, 0.98)
    counts = SCHEDULES.find("exponential").counts(case.total, target, 7)
    masks = [pruned_to(case, kept)[0] for kept in (counts, [counts[0] - 1, *counts[1:]])]
    only_first, only_second = difference(*masks)
    assert only_first == only_second
    assert target / 4 < only_first < target / 2


@pytest.mark.parametrize("name", cases_of("pruning_rounds"))
def test_each_round_of_iterative_magnitude_pruning_differs_from_openlths_by_the_counts_alone(name: str) -> None:
    case = Case(name)
    fraction, ignored = case.options["pruning_fraction"], (case.options["pruning_layers_to_ignore"] or "").split(",")
    start = Mask.ones(case.model())
    for number, recorded in enumerate(case.description["rounds"], start=1):
        theirs = kept_by_openlth(start.kept, fraction)
        assert theirs == recorded["kept_after"]
        ours = kept_by_ours(start.kept, fraction)
        ranked = Mask({name: tensor for name, tensor in start.items() if name not in ignored})
        set_aside = start.kept - ranked.kept
        mask = prune(case.model(f"weights_round{number}"), "magnitude", keep=ours - set_aside, mask=ranked)
        start = case.mask(f"mask_round{number}")
        published = Mask({name: tensor for name, tensor in start.items() if name in ranked})
        assert difference(mask, published) == (ours - theirs, 0)


@pytest.mark.parametrize("name", RANDOM)
def test_random_pruning_spreads_over_the_layers_as_the_forks_does(name: str) -> None:
    case = Case(name)
    fraction = case.options["prune_fraction"]
    mask = prune(case.model(), "random", fraction=fraction, seed=7)
    assert mask.kept == kept_by_ours(case.total, fraction)
    assert case.mask().kept == kept_by_fork(case.total, case.options)[-1]
    for layer, tensor in mask.items():
        spread = (2 * tensor.numel() * fraction * (1 - fraction)) ** 0.5
        assert abs(mask.kept_per_layer()[layer] - case.mask().kept_per_layer()[layer]) < 5 * spread + 2


@pytest.mark.parametrize("name", cases_of("layerwise_shuffle_counts"))
def test_a_layerwise_shuffle_keeps_the_counts_of_every_layer(name: str) -> None:
    case = Case(name)
    mask = prune(case.model(), "magnitude", keep=case.mask().kept)
    assert mask.shuffled_layerwise(3).kept_per_layer() == case.mask().kept_per_layer()
