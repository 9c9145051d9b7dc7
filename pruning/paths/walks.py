"""Random walks through the graph of a network, thousands at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from pruning.paths.graph import Graph, Node

Group = tuple[torch.Tensor, torch.Tensor]
"""Walkers (their numbers), and the place of each: int64, of one length."""
Edge = tuple[Node, int]
"""A node and the number of one of its inputs."""
Preference = Callable[[torch.Tensor], torch.Tensor]
"""From weights to the probability, up to a factor, that a walk passes each of them, or each row of them."""


class Walks:
    """An endless sequence of walks, in batches: even ones forward, odd ones backward, from all units in turn.

    A step picks a pair of units by the sum of |w| over its kernel, and one weight of that kernel by |w|, or uniformly
    if all are zero. At a sum, a walk does not take an edge that leads to ancestors of another one (a shortcut without
    weights); of the other edges, and of several layers that read a value, each is equally likely.

    whole_kernels: a step passes the whole kernel. of_weights: replaces |w| (elementwise). of_pairs: replaces its sum;
    from the weights of all pairs of units (pairs, weights of a pair) to (pairs,). unweighted: layers, by the names of
    their weights, that are treated as weightless when shortcuts are classified.
    """

    def __init__(
        self,
        graph: Graph,
        weights: Mapping[str, torch.Tensor],
        whole_kernels: bool,
        random: torch.Generator,
        *,
        of_weights: Preference = torch.abs,
        of_pairs: Preference | None = None,
        unweighted: Collection[str] = (),
    ) -> None:
        self._graph = graph
        self._random = random
        self._whole_kernels = whole_kernels
        self._open_inputs = _open_inputs(graph, unweighted)
        self._readers: dict[Node, list[Edge]] = {node: [] for node in graph.nodes}
        leading_on = _leading_on(graph, self._open_inputs) if unweighted else set(graph.nodes)
        for node, slots in self._open_inputs.items():
            for slot in slots if node in leading_on else ():
                self._readers[node.inputs[slot]].append((node, slot))
        self._layers: dict[Node, _Layer] = {}
        sizes = (weight.numel() for weight in weights.values())
        starts = dict(zip(weights, itertools.accumulate(sizes, initial=0), strict=False))
        for node in graph.nodes:
            if node.kind == "layer":
                known = node.layer is not None and node.layer in weights
                weight = weights[node.layer or ""] if known else torch.ones(node.weight_shape)
                start = starts[node.layer or ""] if known else None
                self._layers[node] = _Layer.of(node, weight, start, of_weights, of_pairs)
        self._walked = 0
        self.depth = max(1, len(graph.layers))

    def next(self, count: int) -> Group:
        """Return the walker (0 to count - 1) and the place (in all weights, flat) of every weight passed, unordered."""
        numbers = torch.arange(self._walked, self._walked + count)
        self._walked += count
        passed: list[Group] = []
        for parity, starts, walk in (
            (0, [self._first()], self._walk_forward),
            (1, self._graph.outputs, self._walk_back),
        ):
            walkers = (numbers % 2 == parity).nonzero().flatten()
            turn = numbers[walkers] // 2 % sum(node.units for node in starts)
            arrivals: dict[Node, list[Group]] = {node: [] for node in self._graph.nodes}
            for node in starts:
                here = (turn >= 0) & (turn < node.units)
                arrivals[node].append((walkers[here], turn[here]))
                turn = turn - node.units
            walk(arrivals, passed)
        walkers, places = (torch.cat(parts) for parts in zip(*passed, strict=True))
        return walkers, places

    def _first(self) -> Node:
        """Return the node where forward walks start: the input, or its flattening before the first layers."""
        node = self._graph.nodes[0]
        while [reader.kind for reader, _ in self._readers[node]] == ["flatten"]:
            node = self._readers[node][0][0]
        return node

    def _walk_forward(self, arrivals: dict[Node, list[Group]], passed: list[Group]) -> None:
        for node in self._graph.nodes:
            for (reader, slot), walkers, units in self._spread(arrivals.pop(node), self._readers[node]):
                if reader.kind == "layer":
                    units, pairs = self._layers[reader].forward.step(units, self._draw(len(units)))
                    self._pass(self._layers[reader], walkers, pairs, passed)
                elif reader.kind == "concat":
                    units = units + reader.offsets[slot]
                elif reader.kind == "flatten":
                    units = units * reader.repeat + (self._draw(len(units)) * reader.repeat).long()
                arrivals[reader].append((walkers, units))

    def _walk_back(self, arrivals: dict[Node, list[Group]], passed: list[Group]) -> None:
        for node in reversed(self._graph.nodes):
            if node.kind == "concat":
                for walkers, units in arrivals.pop(node):
                    for source, offset in zip(node.inputs, node.offsets, strict=True):
                        here = (units >= offset) & (units < offset + source.units)
                        arrivals[source].append((walkers[here], units[here] - offset))
                continue
            for (_, slot), walkers, units in self._spread(
                arrivals.pop(node), [(node, at) for at in self._open_inputs[node]]
            ):
                if node.kind == "layer":
                    units, pairs = self._layers[node].backward.step(units, self._draw(len(units)))
                    self._pass(self._layers[node], walkers, pairs, passed)
                elif node.kind == "flatten":
                    units = units // node.repeat
                arrivals[node.inputs[slot]].append((walkers, units))

    def _spread(self, arrived: list[Group], edges: list[Edge]) -> list[tuple[Edge, torch.Tensor, torch.Tensor]]:
        """Send the walkers that arrived along `edges`, each equally likely."""
        if not edges or not arrived:
            return []
        walkers = torch.cat([part for part, _ in arrived])
        units = torch.cat([part for _, part in arrived])
        if len(edges) == 1:
            return [(edges[0], walkers, units)]
        choice = (self._draw(len(walkers)) * len(edges)).long()
        return [(edge, walkers[choice == index], units[choice == index]) for index, edge in enumerate(edges)]

    def _pass(self, layer: _Layer, walkers: torch.Tensor, pairs: torch.Tensor, passed: list[Group]) -> None:
        if layer.start is None:
            return
        size = layer.kernels.shape[1]
        if size == 1:
            places = pairs
        elif self._whole_kernels:
            places = (pairs[:, None] * size + torch.arange(size)).flatten()
            walkers = walkers.repeat_interleave(size)
        else:
            cumulated = layer.kernels[pairs].double().cumsum(1)
            total = cumulated[:, -1:]
            cumulated = torch.where(total > 0, cumulated, torch.arange(1.0, size + 1, dtype=torch.float64) / size)
            drawn = self._draw(len(pairs))[:, None] * cumulated[:, -1:]
            places = pairs * size + (cumulated <= drawn).sum(1)
        passed.append((walkers, places + layer.start))

    def _draw(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self._random, dtype=torch.float64) * (1 - 1e-9)


@dataclass(frozen=True)
class _Steps:
    """The steps of walks through a layer in one direction: for each unit, a row of units to step to, in one table.

    Row r's cumulative probabilities are in (r, r + 1], so that one search finds the steps of all walkers at once.
    """

    table: torch.Tensor
    units: torch.Tensor
    """The unit that each entry of the table leads to."""
    pairs: torch.Tensor
    """The flat index of the entry's pair of units in the weight's first two dimensions."""
    columns: int

    @classmethod
    def of(cls, sums: torch.Tensor, units: torch.Tensor, pairs: torch.Tensor) -> _Steps:
        """Return the steps by the sums of |w| of pairs of units, (rows, columns), a row for each unit to step from."""
        sums = torch.where(sums.sum(1, keepdim=True) > 0, sums, 1.0)
        cumulated = sums.cumsum(1)
        cumulated /= cumulated[:, -1:].clone()
        cumulated += torch.arange(len(sums), dtype=torch.float64)[:, None]
        return cls(cumulated.flatten(), units.flatten(), pairs.flatten(), sums.shape[1])

    def step(self, units: torch.Tensor, draws: torch.Tensor) -> Group:
        """Return the units that walkers at `units` step to, and the pairs of units that they pass."""
        found = torch.searchsorted(self.table, units + draws, right=True)
        found = torch.minimum(torch.maximum(found, units * self.columns), (units + 1) * self.columns - 1)
        return self.units[found], self.pairs[found]


@dataclass(frozen=True)
class _Layer:
    """A layer, prepared for walks."""

    forward: _Steps
    backward: _Steps
    kernels: torch.Tensor
    """|w| or its replacement, (pairs of units, weights of a pair)."""
    start: int | None
    """The place of its first weight among all weights; None if its weights are not among them."""

    @classmethod
    def of(
        cls, node: Node, weight: torch.Tensor, start: int | None, of_weights: Preference, of_pairs: Preference | None
    ) -> _Layer:
        groups, first, second = node.groups, weight.shape[0] // node.groups, weight.shape[1]
        weight = weight.reshape(groups * first * second, -1)
        kernels = of_weights(weight)
        sums = kernels.double().sum(1) if of_pairs is None else of_pairs(weight)
        sums = sums.view(groups, first, second)
        pairs = torch.arange(sums.numel()).view(sums.shape)
        of_first = torch.arange(groups * first).view(groups, first, 1).expand(sums.shape)
        of_second = torch.arange(groups * second).view(groups, 1, second).expand(sums.shape)
        from_first = _Steps.of(*(part.reshape(groups * first, second) for part in (sums, of_second, pairs)))
        from_second = _Steps.of(
            *(part.transpose(1, 2).reshape(groups * second, first) for part in (sums, of_first, pairs))
        )
        forward, backward = (from_first, from_second) if node.transposed else (from_second, from_first)
        return cls(forward, backward, kernels, start)


def _open_inputs(graph: Graph, unweighted: Collection[str]) -> dict[Node, list[int]]:
    """Return, by node, the inputs that walks use: at a sum, inputs that are ancestors of another one are excluded."""
    ancestors: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        ancestors[node] = {node}.union(*(ancestors[source] for source in node.inputs))
    found = {node: list(range(len(node.inputs))) for node in graph.nodes}
    for node in graph.nodes:
        if node.kind == "sum":
            weighted = []
            for slot, source in enumerate(node.inputs):
                roots = _roots(source, unweighted)
                if not any(roots <= ancestors[other] for other in node.inputs if other is not source):
                    weighted.append(slot)
            found[node] = weighted if weighted or not unweighted else found[node]
    return found


def _leading_on(graph: Graph, open_inputs: Mapping[Node, list[int]]) -> set[Node]:
    """Return the nodes from which a walk can reach the output."""
    found = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node in found:
            found.update(node.inputs[slot] for slot in open_inputs[node])
    return found


def _roots(node: Node, unweighted: Collection[str]) -> set[Node]:
    """Return the layers, sums and inputs whose concatenation and flattening give a value."""
    if node.kind in ("concat", "flatten") or (node.kind == "layer" and node.layer in unweighted):
        return set().union(*(_roots(source, unweighted) for source in node.inputs))
    return {node}
