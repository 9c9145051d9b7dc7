"""Constant fan-in: as many weights stay in each neuron of a layer (Lasby et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruning.structure.groups import Groups
from pruning.structure.structure import Structure

if TYPE_CHECKING:
    from pruning.structure.layout import Layout


def by_neuron(layout: Layout, _: Mapping[str, str], __: str) -> Groups | str:
    """Return the groups of all weights of a neuron each, in the order of the tensor."""
    if layout.is_transposed and layout.groups > 1:
        return "a transposed convolution in groups"
    order = (layout.neuron_axis, layout.input_axis, *layout.kernel_axes)
    return Groups(order, run=layout.fan_in, size=layout.fan_in)


CONSTANT_FAN_IN = Structure(
    spelling="constant_fan_in",
    summary="as many weights stay in each neuron of a layer",
    paper="Lasby et al. 2024, Dynamic Sparse Training with Structured Sparsity",
    groups=by_neuron,
)
