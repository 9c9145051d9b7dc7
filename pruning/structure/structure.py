"""The declaration of a structure: in which groups a mask keeps weights. Imports no torch.

A method scores weights, and a structure says which of them stay or go together. Either as many weights of each group
stay (`n:m`, `constant_fan_in`), or groups stay or go as a whole (`neuron`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.registry import Registered
from pruning.structure.groups import Groups

if TYPE_CHECKING:
    from pruning.structure.layout import Layout

SKIP, PAD, FLATTEN = UNEVEN = ("skip", "pad", "flatten")
"""Possible treatments of layers that a structure does not divide evenly."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure(Registered):
    """A structure by name."""

    summary: str
    paper: str = ""
    groups: Callable[[Layout, Mapping[str, str], str], Groups | str]
    """(layout of a tensor, numbers in the structure's name, treatment of uneven layers) -> the groups of the tensor;
    or, where it cannot have the structure, a reason that follows 'because it is'."""
    kept: Callable[[Mapping[str, str]], int] | None = None
    """(numbers in its name) -> the number of weights that each group keeps. None: it depends on the density."""
    is_whole: bool = False
    """Whether a group stays or goes as a whole."""


def by_neuron(layout: Layout, _: Mapping[str, str] | None = None, __: str = SKIP) -> Groups | str:
    """Return the groups of all weights of a neuron each, in the order of the tensor."""
    if layout.is_transposed and layout.groups > 1:
        return "a transposed convolution in groups"
    order = (layout.neuron_axis, layout.input_axis, *layout.kernel_axes)
    return Groups(order, run=layout.fan_in, size=layout.fan_in)
