"""Zeros in filters and kernels, counted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.measures.results import measure
from analysis.rows.run import StoredRun
from foundations.errors import UsageError
from tests.analysis.conftest import Family
from tests.analysis.measures.opened import opened


def convolutions(run: StoredRun) -> dict[str, np.ndarray]:
    """Return the weights of the convolutions (out, in, height, width) of a ResNet at its first step."""
    return {name: part.double().numpy() for name, part in run.state("0it").items() if part.dim() == 4}


@pytest.mark.parametrize(("magnitude", "zero_rate"), [(0.0, 0.9), (1e-5, 0.95), (0.3, 0.5)])
def test_zero_filters_are_those_with_a_larger_share_of_zeros(
    pruned_resnet: StoredRun, magnitude: float, zero_rate: float
) -> None:
    rates = {
        name: [sum(abs(w) <= magnitude for w in filter_.flat) / filter_.size for filter_ in weight]
        for name, weight in convolutions(pruned_resnet).items()
    }
    dead = {name: sum(rate > zero_rate for rate in layer) for name, layer in rates.items()}
    number = sum(map(len, rates.values()))
    options: dict[str, Any] = {"step": "0it", "magnitude": magnitude, "zero_rate": zero_rate}

    layers = measure("filter_zero_rates", pruned_resnet, **options)
    filters = measure("filter_zero_rates", pruned_resnet, rows="filter", **options)

    assert layers.values == filters.values
    assert (layers.values["filters"], layers.values["zero_filters"]) == (number, sum(dead.values()))
    assert layers.values["share"] == pytest.approx(sum(dead.values()) / number)
    assert sum(dead.values()) > 0
    assert dict(zip(layers.table["layer"], layers.table["zero_filters"], strict=True)) == dead
    assert dict(zip(layers.table["layer"], layers.table["zero_rate"], strict=True)) == {
        name: pytest.approx(np.mean(layer)) for name, layer in rates.items()
    }
    for name, layer in rates.items():
        found = [row for row in range(number) if filters.table["layer"][row] == name]
        assert [filters.table["filter"][row] for row in found] == list(range(len(layer)))
        assert [filters.table["zero_rate"][row] for row in found] == pytest.approx(layer)


def test_a_kernel_is_alive_if_any_of_its_weights_is_not_zero(pruned_resnet: StoredRun) -> None:
    maps = {
        name: ["".join(str(int(np.any(kernel != 0))) for kernel in filter_) for filter_ in weight]
        for name, weight in convolutions(pruned_resnet).items()
    }

    found = measure("kernel_maps", pruned_resnet, step="0it")

    rows = list(zip(found.table["layer"], found.table["map"], strict=True))
    assert {name: [text for layer, text in rows if layer == name] for name in maps} == maps
    assert found.table["alive"] == [text.count("1") for _, text in rows]
    assert 0 < found.values["alive"] == sum(found.table["alive"]) < found.values["kernels"]
    assert found.values["kernels"] == sum(len(text) for _, text in rows)


@pytest.mark.parametrize("name", ["filter_zero_rates", "kernel_maps"])
def test_a_network_without_convolutions_has_no_filters(family: Family, name: str) -> None:
    with pytest.raises(UsageError, match="digits_lenet_16 has no convolutions"):
        measure(name, opened(family, family.branch))
