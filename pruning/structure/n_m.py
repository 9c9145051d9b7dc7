"""N:M: of every M consecutive inputs of a neuron, N weights stay (Mishra et al. 2021; Zhou et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from foundations.errors import UsageError
from pruning.structure.groups import Groups
from pruning.structure.structure import FLATTEN, SKIP, Structure

if TYPE_CHECKING:
    from pruning.structure.layout import Layout


def n_of(numbers: Mapping[str, str]) -> int:
    """Return the number of weights that a group keeps. Raises: UsageError if it is not below the group's size."""
    n, m = int(numbers["n"]), int(numbers["m"])
    if n >= m:
        raise UsageError(f"{n}:{m} prunes nothing; N must be below M, as in 2:4.", "structure")
    return n


def size_of(numbers: Mapping[str, str]) -> int:
    """Return the number of weights of a group."""
    return int(numbers["m"])


def groups_of(layout: Layout, numbers: Mapping[str, str], uneven: str) -> Groups | str:
    """Return the groups of M inputs of a neuron: in a convolution, of M input channels at a place of its kernel.

    uneven: 'skip' leaves first convolutions, convolutions in groups and inputs that M does not divide without groups;
    'pad' gives them groups, of which the last at each place has fewer weights; 'flatten' reads the whole tensor as
    (neurons, kernel, inputs) without a break, as published code does, so that groups cross places of the kernel, and
    neurons, where M does not divide.
    """
    size = int(numbers["m"])
    order = (layout.neuron_axis, *layout.kernel_axes, layout.input_axis)
    inputs, total = layout.shape[layout.input_axis], math.prod(layout.shape)
    if uneven == FLATTEN:
        return Groups(order, run=total, size=size) if total % size == 0 else f"of {total} weights, not groups of {size}"
    if uneven == SKIP:
        if layout.is_first_convolution:
            return "the first convolution"
        if layout.groups > 1:
            return "a depthwise convolution" if layout.groups == layout.shape[0] else "a convolution in groups"
        if inputs % size:
            return f"of {inputs} inputs, which {size} does not divide"
    return Groups(order, run=inputs, size=size)


N_M = Structure(
    spelling="N:M",
    pattern=r"(?P<n>[1-9]\d*):(?P<m>[1-9]\d*)",
    examples=("2:4", "1:4", "1:8", "1:16"),
    summary="of every M consecutive inputs of a neuron, N weights stay",
    paper="Mishra et al. 2021, Accelerating Sparse Deep Neural Networks",
    groups=groups_of,
    kept=n_of,
    size=size_of,
)
