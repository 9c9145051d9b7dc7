"""Pruning to an effective density: the published effective masks, and counts by a search over every number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import pruning.methods.snip as snip_module
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.paths.connectivity import effective
from pruning.paths.graph import trace
from pruning.prune import prune
from pruning.report import sparsity_report
from tests.pruning.foreign_networks import TransformerClassifier
from tests.pruning.golden import Case, cases_of
from tests.pruning.nets import TinyNet, build
from tests.pruning.test_ntk_sap import TwoInputs

pytestmark = pytest.mark.filterwarnings("ignore::pruning.prune.CollapseWarning")
SHAPE = (2, 6, 6)


def on_paths(model: nn.Module, mask: Mask) -> int:
    return effective(trace(model, SHAPE), mask).kept


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3


@pytest.mark.parametrize("name", cases_of("effective_mask"))
def test_effective_masks_are_those_of_the_published_code(name: str) -> None:
    case = Case(name)
    found = effective(trace(build(case.description["model"]["spec"]), case.input_shape), case.mask())
    assert found == case.mask("effective")
    assert found.kept == case.description["effective_kept"]


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("magnitude", {}),
        ("random", {}),
        ("snip2", {}),
        ("magnitude", {"pruning_layers_to_ignore": "fc.weight"}),
        ("magnitude", {"prunable_layers": "convolutions", "highest": True}),
    ],
)
def test_the_most_weights_are_pruned_that_leave_the_effective_density(strategy: str, options: dict[str, Any]) -> None:
    model = TinyNet()
    arguments = {"examples": examples(), "seed": 3, **options}
    mask = prune(model, strategy, effective_density=0.1, **arguments)
    wanted = math.ceil(0.1 * mask.total)
    assert on_paths(model, mask) >= wanted
    fewer = prune(model, strategy, keep=mask.kept - 1, **arguments)
    assert on_paths(model, fewer) < wanted
    assert mask == prune(model, strategy, keep=mask.kept, **arguments)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        ("synflow", {"iterations": 4}),
        ("snip2", {"iterations": 3}),
        ("force2", {"iterations": 3}),
        ("random", {"allocation": "erk"}),
        ("phew", {}),
        ("ntk_sap", {"iterations": 2, "ntk_batch_size": 3}),
        ("px2", {"iterations": 2}),
    ],
)
def test_every_method_reaches_the_effective_density(strategy: str, options: dict[str, Any]) -> None:
    model, calls = TinyNet(), []

    def on_iteration(number: int, *_: object) -> None:
        calls.append(number)

    arguments = {"examples": examples(), **options}
    mask = prune(model, strategy, effective_density=0.2, on_iteration=on_iteration, **arguments)
    assert on_paths(model, mask) >= math.ceil(0.2 * mask.total)
    assert mask.kept < mask.total / 2
    assert mask == prune(model, strategy, keep=mask.kept, **arguments)
    assert calls == ([] if strategy == "phew" else [*range(1, options.get("iterations", 1) + 1)])


def test_scores_that_the_level_cannot_change_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers, whole = [], snip_module.sensitivity

    def counted(*arguments: Any) -> Any:
        numbers.append(arguments[1].iteration)
        return whole(*arguments)

    monkeypatch.setattr(snip_module, "sensitivity", counted)
    prune(TinyNet(), "snip2", effective_density=0.2, examples=examples())
    assert numbers == [1]
    prune(TinyNet(), "snip2", effective_density=0.2, examples=examples(), iterations=2)
    assert numbers.count(1) == 2
    assert numbers.count(2) > 5


def test_a_random_mask_at_a_lower_effective_density_lies_within_one_at_a_higher() -> None:
    low, high = (prune(TinyNet(), "random", effective_density=d, examples=examples()) for d in (0.1, 0.3))
    assert low.intersection(high) == low


def test_the_level_is_given_in_one_way_and_has_its_own_place_in_the_canonical_form() -> None:
    given = PruningHparams.of({"strategy": "magnitude", "effective_density": 0.05})
    assert given.simplified().canonical()["effective_density"] == 0.05
    assert given.simplified().prune_fraction is None
    assert given.level == 0.95
    nothing = PruningHparams.of({"strategy": "magnitude", "effective_density": 1.0}).simplified()
    assert nothing == PruningHparams.of({"strategy": "magnitude", "prune_fraction": 0.0}).simplified()
    for name, value in (("density", 0.1), ("prune_fraction", 0.9), ("compression", 10.0)):
        with pytest.raises(UsageError, match=f"effective_density, {name}: .* give one of them"):
            PruningHparams.of({"strategy": "magnitude", "effective_density": 0.1, name: value})
    with pytest.raises(UsageError, match="rounding"):
        PruningHparams.of({"strategy": "magnitude", "effective_density": 0.1, "rounding": "synaptic_flow"})
    with pytest.raises(UsageError, match="keep: it excludes .* effective_density"):
        prune(TinyNet(), "magnitude", effective_density=0.1, keep=5)


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "no shape": (TinyNet, {}, "pass input_shape or examples"),
    "two inputs": (TwoInputs, {"examples": ((torch.randn(6, 5), torch.randn(6, 3)), torch.arange(6))}, "one input"),
    "tokens": (
        lambda: TransformerClassifier(0.1),
        {"examples": (torch.arange(36).view(6, 6) % 11, torch.arange(6) % 3), "prunable_layers": "all,Embedding"},
        "cannot|paths begin",
    ),
    "sparse start": (
        TinyNet,
        {"input_shape": SHAPE, "mask": prune(TinyNet(), "random", density=0.1)},
        "lie on a path, a density of .*; choose at most that",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_density_that_cannot_be_found_is_refused_in_a_sentence(name: str) -> None:
    network, arguments, reason = REFUSED[name]
    with pytest.raises(UsageError, match=f"^effective_density: .*({reason})"):
        prune(network(), "magnitude", effective_density=0.5, **arguments)


def test_the_report_has_the_requested_and_the_achieved_effective_density() -> None:
    model = TinyNet()
    mask = prune(model, "magnitude", effective_density=0.1, input_shape=SHAPE)
    report = sparsity_report(mask, requested_effective_density=0.1, model=model, input_shape=SHAPE)
    assert report["requested_effective"]["kept"] == math.ceil(0.1 * mask.total)
    assert report["effective"]["kept"] >= report["requested_effective"]["kept"]
    assert report["requested"]["kept"] == report["achieved"]["kept"] == mask.kept
    assert "requested_effective" not in sparsity_report(mask)
