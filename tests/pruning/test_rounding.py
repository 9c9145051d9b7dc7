"""Counts as published codes have them: `rounding`."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.prune import prune
from tests.pruning.golden import Case, cases_of, difference
from tests.pruning.published import FORK, SYNAPTIC_FLOW

pytestmark = pytest.mark.filterwarnings(
    "ignore::pruning.prune.CollapseWarning", "ignore::pruning.compute_mask.TiesWarning"
)

ROUNDING_OF = {FORK: "openlth", SYNAPTIC_FLOW: "synaptic_flow", "VITA-Group/ToST": "synaptic_flow"}
PUBLISHED = [
    name
    for name in cases_of("pruning")
    if Case(name).description["source"]["repository"] in ROUNDING_OF and Case(name).description["method"] != "random"
]


class Flat(nn.Module):
    """One layer with given weights."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.fc = nn.Linear(len(values), 1, bias=False)
        self.fc.weight.data = torch.tensor([values])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def kept(model: nn.Module, iterations: int = 1, strategy: str = "magnitude", **given: Any) -> list[int]:
    """Prune; return how many weights each iteration keeps."""
    counts: list[int] = []
    prune(model, strategy, iterations=iterations, on_iteration=lambda _i, mask, _s: counts.append(mask.kept), **given)
    return counts


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_masks_of_published_code_are_had_from_its_level_alone(name: str) -> None:
    case = Case(name)
    iterations = case.options.get("prune_iterations") or case.options.get("epochs") or 1
    found: list[int] = []
    mask = prune(
        case.model(),
        case.strategy,
        fraction=case.options["prune_fraction"],
        iterations=iterations,
        rounding=ROUNDING_OF[case.description["source"]["repository"]],
        on_iteration=lambda _number, mask, _scores: found.append(mask.kept),
        **case.scoring,
    )
    assert difference(mask, case.mask()) == (0, 0)
    assert found[-len(case.recorded_counts) :] == case.recorded_counts


def test_synaptic_flow_prunes_the_floor_of_all_weights_in_every_iteration() -> None:
    model, total, density = Flat(torch.linspace(1, 2, 997).tolist()), 997, 0.07
    exponential = [total - int((1 - density ** (e / 7)) * total) for e in range(1, 8)]
    linear = [total - int((1 - (1 - (1 - density) * (e / 7))) * total) for e in range(1, 8)]

    assert kept(model, 7, density=density, rounding="synaptic_flow") == exponential
    assert kept(model, 7, density=density, rounding="synaptic_flow", schedule="linear") == linear


def test_openlth_prunes_the_ceiling_of_what_is_left_and_one_more_but_not_of_the_highest() -> None:
    model, fraction = Flat(torch.linspace(1, 2, 997).tolist()), 1 - (1 - 0.9) ** (1 / 5)
    lowest, highest = [997], [997]
    for _ in range(5):
        lowest.append(lowest[-1] - math.ceil(lowest[-1] * fraction) - 1)
        highest.append(highest[-1] - math.ceil(highest[-1] * fraction))

    assert kept(model, 5, fraction=0.9, rounding="openlth") == lowest[1:]
    assert kept(model, 5, fraction=0.9, rounding="openlth", highest=True) == highest[1:]


def test_force_keeps_the_floor_of_the_exponential() -> None:
    model, density = Flat(torch.linspace(1, 2, 997).tolist()), 0.05
    exponential = [int(997 * math.exp(t * math.log(density) / 6)) for t in range(1, 7)]
    linear = [int(997 * (1 - t * (1 - density) / 6)) for t in range(1, 7)]

    assert kept(model, 6, density=density, rounding="force") == exponential
    assert kept(model, 6, density=density, rounding="force", schedule="linear") == linear


@pytest.mark.parametrize(
    ("rounding", "highest", "left"),
    [
        ("nearest", False, [2.0, 2.0, 3.0, 4.0]),
        ("synaptic_flow", False, [3.0, 4.0]),
        ("openlth", False, [3.0, 4.0]),
        ("force", False, [2.0, 2.0, 2.0, 2.0, 3.0, 4.0]),
        ("nearest", True, [0.0, 1.0, 2.0, 2.0]),
        ("synaptic_flow", True, [0.0, 1.0]),
        ("openlth", True, [0.0, 1.0]),
        ("force", True, [0.0, 1.0, 2.0, 2.0, 2.0, 2.0]),
    ],
)
def test_equal_scores_at_the_threshold_go_or_stay_together(rounding: str, highest: bool, left: list[float]) -> None:
    model = Flat([2.0, 0.0, 2.0, 1.0, 2.0, 3.0, 2.0, 4.0])

    mask = prune(model, "magnitude", fraction=0.5, rounding=rounding, highest=highest)

    assert sorted(model.fc.weight[mask["fc.weight"]].tolist()) == left


def test_weights_that_score_nothing_go_with_those_that_ties_have_pruned_too_many_of() -> None:
    """Ties prune 8 of 18 weights in the first iteration. The second one asks for no more, and prunes a dead one too."""
    model = nn.Sequential(nn.Linear(8, 2, bias=False), nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[1.0] * 8, [5.0] * 8])
    model[1].weight.data = torch.tensor([[3.0, 3.0]])

    assert kept(model, 2, "synflow", rounding="synaptic_flow", density=10 / 18, input_shape=(8,)) == [10, 9]


def test_layers_are_counted_by_themselves_as_synaptic_flow_does_locally() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))

    mask = prune(model, "magnitude", density=0.3, allocation="layerwise", rounding="synaptic_flow")

    assert mask.kept_per_layer() == {"0.weight": 35 - int(0.7 * 35), "1.weight": 15 - int(0.7 * 15)}


def test_layers_to_ignore_count_in_the_published_level_too() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))

    def left(rounding: str) -> dict[str, int]:
        options: dict[str, Any] = {"fraction": 0.2, "pruning_layers_to_ignore": "1.weight"}
        return prune(model, "magnitude", rounding=rounding, **options).kept_per_layer()

    assert left("openlth") == {"0.weight": 35 - math.ceil(0.2 * 50) - 1, "1.weight": 15}
    assert left("synaptic_flow") == {"0.weight": 35 - int((1 - 0.8) * 50), "1.weight": 15}
    assert left("force") == {"0.weight": int(0.8 * 50) - 15, "1.weight": 15}


def test_a_round_of_openlth_from_a_mask_prunes_a_fraction_of_what_that_keeps() -> None:
    model = Flat(torch.linspace(1, 2, 997).tolist())
    first = prune(model, "magnitude", fraction=0.2, rounding="openlth")

    second = prune(model, "magnitude", density=0.8 * first.kept / 997, mask=first, rounding="openlth")

    assert (first.kept, second.kept) == (796, 796 - math.ceil(0.2 * 796) - 1)


def test_pruned_weights_return_in_force_whatever_the_rounding() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))
    masks: list[Mask] = []
    examples = torch.randn(30, 12), torch.arange(30) % 3

    prune(
        model,
        "force10",
        density=0.1,
        iterations=4,
        rounding="force",
        examples=examples,
        on_iteration=lambda _number, mask, _scores: masks.append(mask),
    )

    assert [mask.kept for mask in masks] == [int(135 * math.exp(t * math.log(0.1) / 4)) for t in range(1, 5)]
    assert any(later.intersection(earlier.invert()).kept for earlier, later in pairwise(masks))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"rounding": "floor"}, "rounding.*nearest"),
        ({"rounding": "openlth", "prune_schedule": "linear"}, "exponential"),
        ({"rounding": "force", "allocation": "erk"}, "global"),
        ({"rounding": "synaptic_flow", "allocation": "balanced"}, "uniform"),
        ({"rounding": "force", "strategy": "phew"}, "builds its mask without scores"),
    ],
)
def test_a_rounding_that_no_code_has_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        PruningHparams.of(given)


@pytest.mark.parametrize("rounding", ["openlth", "force"])
def test_a_level_that_leaves_no_threshold_is_refused(rounding: str) -> None:
    with pytest.raises(UsageError, match="no threshold"):
        prune(Flat([1.0, 2.0, 3.0]), "magnitude", fraction=1.0, rounding=rounding)


def test_a_number_of_weights_cannot_be_rounded() -> None:
    with pytest.raises(UsageError, match="give density"):
        prune(Flat([1.0, 2.0, 3.0]), "magnitude", keep=1, rounding="force")


def test_the_rounding_is_in_addresses_only_where_it_is_a_published_one() -> None:
    def address(**given: Any) -> dict[str, Any]:
        return PruningHparams.of({"prune_fraction": 0.5, **given}).normalized(10).canonical()

    assert address(rounding="nearest", prune_iterations=4) == address()
    assert address(rounding="openlth", prune_iterations=4) == {
        **address(),
        "rounding": "openlth",
        "prune_iterations": 4,
    }
