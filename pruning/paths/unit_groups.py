"""Groups of units that can be permuted without a change of what a network computes.

Units that are added to one another, or scaled one by one (a depthwise convolution), are permuted together. Those of the
input and of the output stay in their places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from foundations.errors import UsageError
from foundations.inputs import Inputs
from foundations.multiply_adds import in_eval_mode
from foundations.random_streams import generator
from pruning.paths.graph import Graph, Node, trace

_TOLERANCE = 1e-6  # of float64 outputs: sums in another order differ by 1e-14


@dataclass(frozen=True)
class Axis:
    """A dimension of a tensor whose entries are the units of a group: `repeat` adjacent ones for each unit."""

    tensor: str
    dim: int
    repeat: int = 1


@dataclass(frozen=True)
class UnitGroup:
    """Units that are permuted together, and the dimensions of tensors that they index."""

    units: int
    axes: tuple[Axis, ...]


Orders = Sequence[torch.Tensor]
"""For each group, the unit of the old order at each place of the new one: int64 (units,)."""


def unit_groups(model: nn.Module, inputs: Inputs | Sequence[int]) -> list[UnitGroup]:
    """Return the groups of units of a network for some inputs, in the order in which they are computed.

    Checks in float64 that a permutation of all groups leaves the outputs as they are. Raises: UsageError for a network
    whose units cannot be followed or permuted: attention, concatenations, grouped convolutions, layers that run twice.
    """
    groups = _groups(trace(model, inputs))
    _check(model, Inputs.of(inputs), groups)
    return groups


def permuted(
    tensors: Mapping[str, torch.Tensor], groups: Sequence[UnitGroup], orders: Orders
) -> dict[str, torch.Tensor]:
    """Return the tensors of a state or of a mask with their units in other orders."""
    found = dict(tensors)
    for group, order in zip(groups, orders, strict=True):
        for axis in group.axes:
            if axis.tensor in found:
                places = entries(order, axis.repeat)
                found[axis.tensor] = found[axis.tensor].index_select(axis.dim, places.to(found[axis.tensor].device))
    return found


def entries(order: torch.Tensor, repeat: int) -> torch.Tensor:
    """Return the order of the entries of an axis with several adjacent ones a unit."""
    return (order[:, None] * repeat + torch.arange(repeat)).flatten()


def _groups(graph: Graph) -> list[UnitGroup]:
    """Return the groups of units that no check has tested. Raises: UsageError for units that cannot be permuted."""
    owner: dict[Node, Node] = {}

    def find(node: Node) -> Node:
        while node in owner:
            node = owner[node]
        return node

    def tie(first: Node, second: Node) -> None:
        if find(first) is not find(second):
            owner[find(second)] = find(first)

    for node in graph.nodes:
        if node.kind == "concat":
            raise UsageError("channels are concatenated or padded in this network, whose units cannot be permuted.")
        if node.kind == "sum":
            for source in node.inputs:
                tie(source, node)
        if node.kind == "layer" and node.groups > 1:
            if not node.groups == node.units == node.inputs[0].units:
                raise UsageError(f"{node.layer} is a grouped convolution, whose units cannot be permuted.")
            tie(node.inputs[0], node)
    fixed = {find(_source(node)[0]) for node in (*graph.outputs, *(n for n in graph.nodes if n.kind == "input"))}
    axes: dict[Node, dict[Axis, None]] = {}

    def add(node: Node, name: str | None, dim: int) -> None:
        source, repeat = _source(node)
        if name is not None and find(source) not in fixed:
            axes.setdefault(find(source), {})[Axis(name, dim, repeat)] = None

    for node in graph.layers:
        add(node, node.layer, 1 if node.transposed and node.groups == 1 else 0)
        if node.groups == 1:
            add(node.inputs[0], node.layer, 0 if node.transposed else 1)
    for name, node in {**graph.channelwise, **graph.statistics}.items():
        add(node, name, 0)
    found = [UnitGroup(node.units, tuple(axes[node])) for node in axes]
    places = [(axis.tensor, axis.dim) for group in found for axis in group.axes]
    for place in places:
        if places.count(place) > 1:
            raise UsageError(f"{place[0]} is used by several layers of this network, whose units cannot be permuted.")
    return found


def _source(node: Node) -> tuple[Node, int]:
    """Return the node whose units a node has, through flattenings, and the number of entries of each of them."""
    repeat = 1
    while node.kind == "flatten":
        repeat *= node.repeat
        node = node.inputs[0]
    return node, repeat


def _check(model: nn.Module, inputs: Inputs, groups: Sequence[UnitGroup]) -> None:
    """Check that a permutation of all groups leaves the outputs as they are. Raises: UsageError."""
    random = generator("permuted units")
    orders = [torch.randperm(group.units, generator=random) for group in groups]
    buffers = dict(model.named_buffers())
    state = {
        name: torch.rand(t.shape, generator=random, dtype=torch.float64) - 0.5 * (name not in buffers)
        if t.is_floating_point()
        else t
        for name, t in model.state_dict().items()
    }
    example = inputs.blank(2, torch.device("cpu"), torch.float64)
    if example.is_floating_point():
        example = torch.rand(example.shape, generator=random, dtype=torch.float64)
    with in_eval_mode(model), torch.no_grad():
        first = functional_call(model, state, (example,))
        second = functional_call(model, permuted(state, groups, orders), (example,))
    if not (first - second).abs().max() <= _TOLERANCE * first.abs().max():
        raise UsageError("the outputs of this network depend on the order of its units, which cannot be permuted.")
