"""Connectivity of a masked network: kept weights on paths from input to output, and units without weights.

A kept weight on no such path cannot change the output: it is not *effective* (Vysogorets & Kempe 2023).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruning.masks.mask import Mask
from pruning.paths.graph import Graph, Node

Units = dict[Node, torch.Tensor]


def connections(node: Node, kept: torch.Tensor | None) -> torch.Tensor:
    """Return True for each pair of units that a kept weight of a layer connects: bool (out, in)."""
    inputs = node.inputs[0].units
    if kept is None:
        kept = torch.ones(node.weight_shape, dtype=torch.bool)
    pairs = kept.flatten(2).any(2) if kept.dim() > 2 else kept
    groups = node.groups
    pairs = pairs.reshape(groups, pairs.shape[0] // groups, pairs.shape[1])
    if node.transposed:
        pairs = pairs.transpose(1, 2)
    full = torch.zeros(groups, node.units // groups, groups, inputs // groups, dtype=torch.bool)
    for group in range(groups):
        full[group, :, group] = pairs[group]
    return full.reshape(node.units, inputs)


def reached_from_input(graph: Graph, mask: Mapping[str, torch.Tensor], *, one_layer: bool = False) -> Units:
    """Return, by node, True for each unit that a path of kept weights reaches from the input: bool (units,).

    one_layer: True for each unit with a kept incoming weight, even from units that are not reached.
    """
    reached: Units = {}
    for node in graph.nodes:
        if node.kind == "input":
            reached[node] = torch.ones(node.units, dtype=torch.bool)
        elif node.kind == "layer":
            pairs = connections(node, mask.get(node.layer or ""))
            reached[node] = pairs.any(1) if one_layer else (pairs & reached[node.inputs[0]]).any(1)
        elif node.kind == "sum":
            reached[node] = torch.stack([reached[source] for source in node.inputs]).any(0)
        elif node.kind == "concat":
            reached[node] = torch.zeros(node.units, dtype=torch.bool)
            for source, offset in zip(node.inputs, node.offsets, strict=True):
                reached[node][offset : offset + source.units] = reached[source]
        else:
            reached[node] = reached[node.inputs[0]].repeat_interleave(node.repeat)
    return reached


def reaching_output(graph: Graph, mask: Mapping[str, torch.Tensor]) -> Units:
    """Return, by node, True for each unit from which a path of kept weights reaches the output: bool (units,)."""
    reaching = {node: torch.zeros(node.units, dtype=torch.bool) for node in graph.nodes}
    for node in graph.outputs:
        reaching[node][:] = True
    for node in reversed(graph.nodes):
        mine = reaching[node]
        if node.kind == "layer":
            pairs = connections(node, mask.get(node.layer or ""))
            reaching[node.inputs[0]] |= (pairs & mine[:, None]).any(0)
        elif node.kind == "sum":
            for source in node.inputs:
                reaching[source] |= mine
        elif node.kind == "concat":
            for source, offset in zip(node.inputs, node.offsets, strict=True):
                reaching[source] |= mine[offset : offset + source.units]
        elif node.kind == "flatten":
            reaching[node.inputs[0]] |= mine.view(-1, node.repeat).any(1)
    return reaching


def on_path(graph: Graph, mask: Mask) -> dict[str, torch.Tensor]:
    """Return, by tensor, True for weights (kept or not) that would lie on a path of `mask`: bool, broadcastable.

    Paths lead from input to output. Tensors that the forward pass does not use are on none.
    """
    reached, reaching = reached_from_input(graph, mask), reaching_output(graph, mask)
    places = {name: torch.zeros_like(tensor) for name, tensor in mask.items()}
    for node in graph.layers:
        name = node.layer or ""
        if name in places:
            pairs = reaching[node][:, None] & reached[node.inputs[0]]
            places[name] |= _as_weight(node, pairs)
    for name, node in graph.channelwise.items():
        if name in places:  # a bias, or a scale or shift of batchnorm
            places[name] |= reaching[node] & reached[node]
    return places


def effective(graph: Graph, mask: Mask) -> Mask:
    """Return the mask of the kept weights that lie on a path of kept weights from the input to the output."""
    places = on_path(graph, mask)
    return Mask({name: tensor & places[name] for name, tensor in mask.items()})


def sums_by_unit(node: Node, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of a layer's values by unit: over the weights into each output unit, and out of each input unit.

    values: of the shape of the weight; a mask gives the degrees of the units. Returns: (units,) each; of bools, int64.
    """
    groups = node.groups
    blocks = values.reshape(groups, values.shape[0] // groups, values.shape[1], -1)
    per_first, per_second = blocks.sum((2, 3)).flatten(), blocks.sum((1, 3)).flatten()
    return (per_second, per_first) if node.transposed else (per_first, per_second)


def channel_mask(graph: Graph, mask: Mask) -> Mask:
    """Return a mask for biases and batchnorm's weights: kept if a kept weight leads into the unit.

    Applying it silences units without inputs, as the PHEW repository does for biases.
    """
    fed = reached_from_input(graph, mask, one_layer=True)
    return Mask({name: fed[node] for name, node in graph.channelwise.items()})


def _as_weight(node: Node, pairs: torch.Tensor) -> torch.Tensor:
    """Spread a bool (out, in) over the entries of a layer's weight: the inverse of `connections`."""
    groups, outputs, inputs = node.groups, pairs.shape[0], pairs.shape[1]
    blocks = pairs.reshape(groups, outputs // groups, groups, inputs // groups)
    diagonal = torch.stack([blocks[group, :, group] for group in range(groups)])
    if node.transposed:
        diagonal = diagonal.transpose(1, 2)
    diagonal = diagonal.reshape(node.weight_shape[:2])
    return diagonal.reshape(*node.weight_shape[:2], *[1] * (len(node.weight_shape) - 2)).expand(node.weight_shape)
