"""The other measures, against definitions written out in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.measures.results import measure
from analysis.rows.run import StoredRun, open_run
from foundations.errors import UsageError
from foundations.storage.run import Run
from tests.analysis.conftest import Family

LAYERS = ["fc_layers.0", "fc"]


def opened(family: Family, run: Run) -> StoredRun:
    return open_run(str(run), family.root, family.datasets)


def weights_and_mask(run: StoredRun, step: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights of the two layers of `digits_lenet_16` at a step, float64, and which of them are kept."""
    state, mask = run.state(step), run.mask()
    weights = [state[f"{layer}.weight"].double() for layer in LAYERS]
    return weights, [
        mask[f"{layer}.weight"] if mask else torch.ones_like(w) > 0 for layer, w in zip(LAYERS, weights, strict=True)
    ]


def test_squared_weights_of_layers_are_averaged_at_each_kept_step(own_family: Family) -> None:
    run = opened(own_family, own_family.training)
    found = measure("lottery_layer_conservation", run, device="cpu")

    rows = []
    for step in run.steps:
        state = run.state(step)
        for layer in LAYERS:
            weight, bias = state[f"{layer}.weight"].double().numpy(), state[f"{layer}.bias"].double().numpy()
            size, squares = weight.size + bias.size, (weight**2).sum() + (bias**2).sum()
            rows.append((step.iteration, step.iteration / 6, f"{layer}.weight", size, 1 / size, squares / size))
    assert list(found.table) == ["step", "epoch", "layer", "size", "inverse_size", "average_squared_weight"]
    for column, expected in zip(found.table.values(), zip(*rows, strict=True), strict=True):
        assert column == (list(expected) if isinstance(expected[0], str) else pytest.approx(list(expected), rel=1e-12))
    x, y = np.log([row[4] for row in rows[-2:]]), np.log([row[5] for row in rows[-2:]])
    assert found.values["last_slope"] == pytest.approx(np.polyfit(x, y, 1)[0])


def test_steps_that_were_not_kept_are_computed_only_if_asked(own_family: Family) -> None:
    run = opened(own_family, own_family.training)
    with pytest.raises(UsageError, match="did not keep its state at 7it"):
        measure("lottery_layer_conservation", run, steps="0it,7it,2ep", device="cpu")

    found = measure("lottery_layer_conservation", run, steps="0it,7it,2ep", replay=True, device="cpu")

    assert found.table["step"] == [0, 0, 7, 7, 12, 12]
    assert [str(step) for step in run.steps if step.iteration in (7, 12)] == ["7it", "12it"]


SCHEDULES: dict[str, Callable[[int, float, int, int], int]] = {
    "linear": lambda n, density, done, of: round(n * (1 - (1 - density) * done / of)),
    "exponential": lambda n, density, done, of: round(n * density ** (done / of)),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("exponent", "iterations"), [(1.0, 1), (1.5, 4), (0.0, 2)])
def test_cut_and_flow_are_those_of_the_definition(
    convolutions: StoredRun, schedule: str, exponent: float, iterations: int
) -> None:
    model = convolutions.model("0it").double()
    weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    for parameter in model.parameters():
        parameter.data.abs_()
    total = sum(weight.numel() for weight in weights)
    ratios = [0.0]
    for done in range(1, iterations + 1):
        model.zero_grad()
        flow = model(torch.ones(1, 1, 8, 8, dtype=torch.float64)).sum()
        flow.backward()
        scores = torch.cat([(weight * weight.grad).detach().flatten() for weight in weights if weight.grad is not None])
        gone = total - SCHEDULES[schedule](total, 10**-exponent, done, iterations)
        order = scores.argsort(stable=True)[:gone]
        ratios.append(float(scores[order].sum() / flow.detach()))
        kept = torch.ones(total, dtype=torch.bool)
        kept[order] = False
        for weight, part in zip(weights, kept.split([weight.numel() for weight in weights]), strict=True):
            weight.data *= part.view(weight.shape)

    options: dict[str, Any] = {"schedules": schedule, "exponents": str(exponent), "iterations": str(iterations)}
    found = measure("synaptic_flow_ratio", convolutions, device="cpu", **options)

    assert found.table["ratio"] == [pytest.approx(max(ratios), rel=1e-9)]
    assert found.values == {f"{schedule}_ratio": found.table["ratio"][0]}
    combination = [found.table[name][0] for name in ("schedule", "exponent", "iterations")]
    assert combination == [schedule, exponent, iterations]


def test_iterations_of_the_exponential_schedule_keep_the_cut_below_the_flow(convolutions: StoredRun) -> None:
    found = measure("synaptic_flow_ratio", convolutions, exponents="2", iterations="1,20", device="cpu")

    rows = zip(*(found.table[name] for name in ("schedule", "iterations", "ratio")), strict=True)
    ratio = {(schedule, iterations): ratio for schedule, iterations, ratio in rows}
    assert ratio["exponential", 20] < 1 < ratio["exponential", 1] == ratio["linear", 1]
    assert ratio["linear", 20] > ratio["exponential", 20]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"schedules": "exponental"}, "exponential"),
        ({"exponents": "1,x"}, "not a list of numbers"),
        ({"exponents": "-1"}, "at least 0"),
        ({"iterations": "0"}, "at least 1"),
        ({"iterations": ""}, "not a list of numbers"),
    ],
)
def test_lists_that_are_not_valid_are_refused(convolutions: StoredRun, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        measure("synaptic_flow_ratio", convolutions, **options)


@pytest.mark.parametrize("which", ["training", "branch"])
def test_the_trace_of_the_path_kernel_is_the_sum_over_paths(family: Family, which: str) -> None:
    run = opened(family, getattr(family, which))
    step = str(run.steps[0])
    (first, second), (kept_first, kept_second) = weights_and_mask(run, step)
    squares = [(weight * kept).square() for weight, kept in ((first, kept_first), (second, kept_second))]
    paths = torch.einsum("hi,oh->", kept_first.double(), squares[1])
    paths += torch.einsum("hi,oh->", squares[0], kept_second.double())
    # A bias is the first weight of a path to the output, so it gives the weights of the last layer more.
    paths += float((run.state(step)["fc_layers.0.bias"].double().square() @ kept_second.double().T).sum())

    found = measure("path_kernel_trace", run, step=step, device="cpu")

    assert found.values["path_kernel_trace"] == pytest.approx(float(paths), rel=1e-9)
    assert found.values["log"] == pytest.approx(math.log(float(paths)), rel=1e-9)


def test_effective_weights_are_those_whose_ends_have_weights_on_the_other_side(family: Family) -> None:
    run = opened(family, family.branch)
    _, masks = weights_and_mask(run, str(run.steps[0]))
    first, second = (mask.numpy() for mask in masks)
    has_input, has_output = np.any(first, axis=1, keepdims=True), np.any(second, axis=0, keepdims=True)
    effective = [int((first & has_output.T).sum()), int((second & has_input.T).sum())]
    total, kept = sum(mask.numel() for mask in masks), [int(mask.sum()) for mask in masks]

    found = measure("effective_sparsity", run, device="cpu")

    assert found.table["layer"] == ["fc_layers.0.weight", "fc.weight"]
    assert (found.table["kept"], found.table["effective"]) == (kept, effective)
    assert found.values["sparsity"] == pytest.approx(1 - sum(kept) / total)
    assert found.values["effective_sparsity"] == pytest.approx(1 - sum(effective) / total)


def test_degrees_are_counts_of_kept_weights(family: Family) -> None:
    run = opened(family, family.branch)
    _, masks = weights_and_mask(run, str(run.steps[0]))

    found = measure("degree_statistics", run, device="cpu")

    assert found.table["layer"] == ["fc_layers.0.weight", "fc.weight"]
    for side, axis in (("in", 1), ("out", 0)):
        degrees = [mask.numpy().sum(axis) for mask in masks]
        for statistic, function in (
            ("units", len),
            ("mean", np.mean),
            ("std", np.std),
            ("min", np.min),
            ("max", np.max),
        ):
            assert found.table[f"{side}_{statistic}"] == pytest.approx([function(degree) for degree in degrees])
        without = [int((degree == 0).sum()) for degree in degrees]
        assert found.table[f"{side}_without"] == without
        assert found.values[f"units_without_{side}put"] == sum(without)


def test_a_run_without_a_mask_keeps_everything(family: Family) -> None:
    run = opened(family, family.training)

    assert measure("effective_sparsity", run, device="cpu").values["effective_density"] == 1
    assert measure("degree_statistics", run, device="cpu").table["in_mean"] == [64, 16]
