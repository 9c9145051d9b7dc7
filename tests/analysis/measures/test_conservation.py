"""Conservation of scores, against definitions written out in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.measures.results import measure
from analysis.measures.unit_conservation import by_unit, consecutive_layers
from analysis.rows.run import StoredRun
from foundations.errors import UsageError
from pruning.compute_mask import scores_from_hparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.paths.graph import trace
from pruning.prune import prune
from pruning.scoring.inputs import ScoringInputs
from tests.pruning.nets import VGG

SHAPE = (1, 8, 8)


def saliencies(model: nn.Module, shape: tuple[int, ...] = SHAPE) -> dict[str, Tensor]:
    """Return θ ∂R/∂θ of every parameter, R = 1ᵀ f(1; |θ|)."""
    absolute = copy.deepcopy(model).double().eval()
    for parameter in absolute.parameters():
        parameter.data.abs_()
        parameter.requires_grad_(True)
    absolute(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    return {name: p.detach() * p.grad for name, p in absolute.named_parameters() if p.grad is not None}


def flows_of_units(scores: dict[str, Tensor]) -> tuple[list[float], list[float]]:
    """Return in and out of the hidden units of `synflow_conv`: convolutions 0 and 2, and 5, which sees 64 places."""
    into, out_of = [], []
    for first, second, places in (("0", "2", 1), ("2", "5", 64)):
        weight, bias, following = scores[f"{first}.weight"], scores[f"{first}.bias"], scores[f"{second}.weight"]
        for unit in range(32):
            into.append(float(weight[unit].sum() + bias[unit]))
            out_of.append(float(following[:, unit * places : (unit + 1) * places].sum()))
    return into, out_of


def test_in_and_out_are_sums_of_scores_by_their_definition(convolutions: StoredRun) -> None:
    into, out_of = flows_of_units(saliencies(convolutions.model("0it")))

    found = measure("unit_conservation", convolutions, strategy="synflow", device="cpu")

    assert found.table["layer"] == ["0.weight"] * 32 + ["2.weight"] * 32
    assert found.table["unit"] == [*range(32), *range(32)]
    np.testing.assert_allclose(found.table["in"], into, rtol=1e-12)
    np.testing.assert_allclose(found.table["out"], out_of, rtol=1e-12)
    assert found.values["correlation"] == pytest.approx(np.corrcoef(into, out_of)[0, 1], rel=1e-12)
    deviation = np.abs(np.subtract(into, out_of)) / np.maximum(np.abs(into), np.abs(out_of))
    assert found.values["max_relative_deviation"] == pytest.approx(deviation.max(), abs=1e-14)


def test_synflow_conserves_in_each_unit_and_magnitude_does_not(convolutions: StoredRun) -> None:
    synflow = measure("unit_conservation", convolutions, strategy="synflow", device="cpu").values
    magnitude = measure("unit_conservation", convolutions, strategy="magnitude", device="cpu").values

    assert synflow["correlation"] > 0.999999
    assert synflow["max_relative_deviation"] < 1e-9
    assert magnitude["correlation"] < 0.9
    assert magnitude["max_relative_deviation"] > 0.1


def test_scores_are_of_the_network_that_is_left_at_a_level(convolutions: StoredRun) -> None:
    model = convolutions.model("0it")
    mask = prune(model, "synflow", density=0.1, iterations=3, input_shape=SHAPE)
    mask.apply_(model)
    into, out_of = flows_of_units(saliencies(model))

    options: dict[str, Any] = {"strategy": "synflow", "density": 0.1, "prune_iterations": 3}
    found = measure("unit_conservation", convolutions, device="cpu", **options)

    np.testing.assert_allclose(found.table["in"], into, rtol=1e-12)
    np.testing.assert_allclose(found.table["out"], out_of, rtol=1e-12)


def test_batch_normalization_at_initialization_conserves() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VGG([4, 6, "M", 8], 8, 5).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.2, 1)
    pruning = PruningHparams.of({"strategy": "synflow"})
    ones = Mask({name: torch.ones(p.shape) for name, p in model.named_parameters() if ".bn." not in name})
    shape = (3, 4, 4)

    scores = scores_from_hparams(model, pruning, ScoringInputs(seed=0, input_shape=shape), ones)

    found = by_unit(consecutive_layers(trace(model, shape)), scores)
    assert len(found.table["unit"]) == 4 + 6 + 8
    assert found.values["max_relative_deviation"] < 1e-9


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("unit_conservation", {"strategy": "synflow"}, "ResNets"),
        ("unit_conservation", {"strategy": "phew"}, "without scores"),
        ("layer_conservation", {"strategy": "snap"}, "Did you mean 'snip"),
        ("layer_conservation", {"strategy": "magnitude", "synflow_means": "stored"}, "not an option"),
    ],
)
def test_what_cannot_be_scored_is_refused(resnet: StoredRun, name: str, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        measure(name, resnet, device="cpu", **options)


@pytest.mark.parametrize("strategy", ["magnitude", "synflow"])
def test_averages_of_layers_are_those_of_the_definition(resnet: StoredRun, strategy: str) -> None:
    model = resnet.model("0it")
    every = {name: p.detach().double().abs() for name, p in model.named_parameters()}
    scores = every if strategy == "magnitude" else saliencies(model)
    layers = [name for name, p in model.named_parameters() if p.dim() > 1]
    sizes, averages = [], []
    for name in layers:
        parts = [scores[name], *([scores["fc.bias"]] if name == "fc.weight" else [])]
        sizes.append(sum(part.numel() for part in parts))
        averages.append(abs(sum(float(part.sum()) for part in parts)) / sizes[-1])

    found = measure("layer_conservation", resnet, strategy=strategy, device="cpu")

    assert (found.table["layer"], found.table["size"]) == (layers, sizes)
    np.testing.assert_allclose(found.table["average_score"], averages, rtol=1e-6 if strategy == "magnitude" else 1e-12)
    x, y = -np.log(sizes), np.log(averages)
    assert found.values["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-6)
    assert found.values["slope"] == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-6)


def test_snip_scores_with_the_examples_of_the_run_and_notes_the_data(convolutions: StoredRun) -> None:
    found = measure("layer_conservation", convolutions, strategy="snip1", device="cpu")

    assert list(found.dataset) == ["digits"]
    assert all(average > 0 for average in found.frame()["average_score"])
