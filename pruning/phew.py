"""PHEW (Patil & Dovrolis 2021, section 4): weights on random walks from input to output, biased to heavy weights, stay.

A walk steps from unit i of a layer's input to a weight w with probability |w| / Σ |w'| over the weights that leave i;
backwards, over those that enter. Walks alternate: one forward from an input unit, one backward from an output unit,
each of them in turn. Where several layers read a value (a block and its projection shortcut), each is as likely;
shortcuts without weights are not taken.

A walk knows nothing of the others, so thousands are walked at once, layer by layer through the graph of the network.
Here the published code differs: it walks one at a time, decides about a projection shortcut one layer too early on its
way forward (which disconnects the path), and stops up to a walk beyond the number that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from foundations.errors import UsageError
from foundations.random_streams import generator
from pruning.connectivity import between
from pruning.graph import Graph, Node, trace
from pruning.mask import Mask
from pruning.scoring import Scoring

Group = tuple[torch.Tensor, torch.Tensor]
"""Some walkers (their numbers), and where each is: int64, of one length."""
Way = tuple[Node, int]
"""A node, and which of its inputs leads there."""

_LARGEST_BATCH = 1 << 15
_LAST_BATCH = 256
_LAST_TRIES = 40
_NEW_PER_WALK_AT_LEAST = 1e-3


def phew(scoring: Scoring, keep: int, *, phew_kernels: bool = False) -> Mask:
    """Return the mask of the weights on random walks: exactly `keep` of them, those of the scoring's mask among them.

    phew_kernels: a walk keeps the whole kernel of each pair of channels that it passes (kernel-conserved PHEW).

    Walks that hold more new weights than are still wanted are passed over. Should there be none that fits, or should
    walks hardly find anything new (nearly dense levels), the rest are the largest weights between units with paths.
    """
    assert scoring.input_shape is not None
    graph = trace(scoring.network, scoring.input_shape)
    weights = {name: weight.cpu() for name, weight in scoring.dense_weights.items()}
    unused = set(weights) - {node.layer for node in graph.layers}
    walks = _Walks(graph, weights, phew_kernels, generator("phew walks", scoring.seed))
    taken = torch.cat([tensor.flatten() for tensor in scoring.mask.values()])
    wanted = keep - int(torch.count_nonzero(taken))
    if unused and wanted > sum(weights[name].numel() for name in set(weights) - unused) - int(taken.sum()):
        raise UsageError(f"{keep} weights are more than walks can reach: the forward pass does not use {min(unused)}.")
    wanted = _take_many(walks, taken, wanted)
    wanted = _take_last(walks, taken, wanted)
    _take_largest(graph, weights, taken, wanted)
    parts = torch.split(taken, [weight.numel() for weight in weights.values()])
    return Mask({name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)})


def _take_many(walks: _Walks, taken: torch.Tensor, wanted: int) -> int:
    """Take walks in their order, all that fit; return how many weights are still wanted."""
    while wanted > 0:
        batch = min(_LARGEST_BATCH, max(_LAST_BATCH, 2 * wanted // walks.depth))
        walkers, places = walks.next(batch)
        walkers, places = _first_visits(walkers, places, taken)
        total = torch.bincount(walkers, minlength=batch).cumsum(0)
        fits = int(torch.count_nonzero(total <= wanted))
        taken[places[walkers < fits]] = True
        found = int(total[fits - 1]) if fits else 0
        wanted -= found
        if fits < batch or found < _NEW_PER_WALK_AT_LEAST * batch:
            break
    return wanted


def _take_last(walks: _Walks, taken: torch.Tensor, wanted: int) -> int:
    """Take the walks that hold no more new weights than are still wanted, of a limited number; return what is left."""
    for _ in range(_LAST_TRIES):
        if wanted == 0:
            break
        walkers, places = walks.next(_LAST_BATCH)
        new = ~taken[places]
        pairs = torch.unique(torch.stack([walkers[new], places[new]]), dim=1)
        counts = torch.bincount(pairs[0], minlength=_LAST_BATCH)
        fitting = ((counts > 0) & (counts <= wanted)).nonzero().flatten()
        if len(fitting):
            taken[pairs[1][pairs[0] == fitting[0]]] = True
            wanted -= int(counts[fitting[0]])
    return wanted


def _take_largest(graph: Graph, weights: Mapping[str, torch.Tensor], taken: torch.Tensor, wanted: int) -> None:
    """Take the largest weights between units that have paths; if those are not enough, the largest of all."""
    if wanted == 0:
        return
    sizes = [weight.numel() for weight in weights.values()]
    parts = torch.split(taken, sizes)
    mask = Mask({name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)})
    places = between(graph, mask)
    on_path = torch.cat([places[name].flatten() for name in weights])
    used = {node.layer for node in graph.layers}
    in_use = torch.cat([torch.full((weight.numel(),), name in used) for name, weight in weights.items()])
    size = torch.cat([weight.abs().flatten().double() for weight in weights.values()])
    largest = float(size.max()) + 1
    rank = size + largest * on_path + largest * in_use - 3 * largest * taken
    taken[torch.sort(rank, descending=True, stable=True).indices[:wanted]] = True


def _first_visits(
    walkers: torch.Tensor, places: torch.Tensor, taken: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for each place that is not taken yet, the first walker that visits it."""
    new = ~taken[places]
    order = torch.argsort(walkers[new], stable=True)
    walkers, places = walkers[new][order], places[new][order]
    place_order = torch.argsort(places, stable=True)
    walkers, places = walkers[place_order], places[place_order]
    first = torch.ones_like(places, dtype=torch.bool)
    first[1:] = places[1:] != places[:-1]
    return walkers[first], places[first]


@dataclass(frozen=True)
class _Steps:
    """How walks pass a layer in one direction: rows of weights that a unit can step along, as one cumulative table.

    Row r's cumulated probabilities stand in (r, r + 1], so that one search finds the steps of all walkers at once.
    """

    table: torch.Tensor
    columns: int
    places: torch.Tensor
    """The flat index in the weight of each entry; empty where that is the entry's own."""

    @classmethod
    def of(cls, rows: torch.Tensor, places: torch.Tensor | None) -> _Steps:
        """rows: |w| (units, weights of the unit)."""
        rows = rows.double()
        sums = rows.sum(1, keepdim=True)
        cumulated = torch.where(sums > 0, rows, 1.0).cumsum(1)
        cumulated /= cumulated[:, -1:].clone()
        cumulated += torch.arange(len(rows), dtype=torch.float64)[:, None]
        return cls(cumulated.flatten(), rows.shape[1], torch.empty(0) if places is None else places.flatten())

    def step(self, units: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the column and the flat index in the weight that walkers at `units` step along."""
        found = torch.searchsorted(self.table, units + draws, right=True)
        found = torch.minimum(torch.maximum(found, units * self.columns), (units + 1) * self.columns - 1)
        return found - units * self.columns, self.places[found] if len(self.places) else found


class _Walks:
    """An endless sequence of walks, in batches: even ones forward, odd ones backward, from all units in turn."""

    def __init__(
        self, graph: Graph, weights: Mapping[str, torch.Tensor], kernels: bool, random: torch.Generator
    ) -> None:
        self._graph = graph
        self._random = random
        self._weights = weights
        self._whole_kernels = kernels
        self._edges = _edges(graph)
        self._readers: dict[Node, list[Way]] = {node: [] for node in graph.nodes}
        for node, sources in self._edges.items():
            for slot in sources:
                self._readers[node.inputs[slot]].append((node, slot))
        self._starts: dict[str, int] = {}
        for name in weights:
            self._starts[name] = sum(weights[other].numel() for other in self._starts)
        self._forward = {node: self._table(node, forward=True) for node in graph.nodes if node.kind == "layer"}
        self._backward = {node: self._table(node, forward=False) for node in graph.nodes if node.kind == "layer"}
        self._walked = 0
        self.depth = max(1, len(graph.layers))

    def next(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the walker (0 to count - 1) and the place (in all weights, flat) of every weight passed, unordered."""
        numbers = torch.arange(self._walked, self._walked + count)
        self._walked += count
        passed: list[Group] = []
        for parity, start, walk in ((0, [self._first()], self._go), (1, self._graph.outputs, self._go_back)):
            walkers = (numbers % 2 == parity).nonzero().flatten()
            turn = numbers[walkers] // 2 % sum(node.units for node in start)
            arrivals: dict[Node, list[Group]] = {node: [] for node in self._graph.nodes}
            for node in start:
                here = (turn >= 0) & (turn < node.units)
                arrivals[node].append((walkers[here], turn[here]))
                turn = turn - node.units
            walk(arrivals, passed)
        walkers, places = (torch.cat(parts) for parts in zip(*passed, strict=True))
        return walkers, places

    def _first(self) -> Node:
        """Return where forward walks start: at the input as the first layers read it, flattened if they do so."""
        node = self._graph.nodes[0]
        while [reader.kind for reader, _ in self._readers[node]] == ["flatten"]:
            node = self._readers[node][0][0]
        return node

    def _go(
        self,
        arrivals: dict[Node, list[Group]],
        passed: list[Group],
    ) -> None:
        for node in self._graph.nodes:
            readers = self._readers[node]
            for (reader, slot), walkers, units in self._spread(arrivals.pop(node), readers):
                if reader.kind == "layer":
                    columns, places = self._forward[reader].step(units, self._draw(len(units)))
                    self._pass(reader, walkers, places, passed)
                    kernel = reader.weight_shape[2:].numel()
                    per_group = reader.units // reader.groups
                    group = units // (node.units // reader.groups)
                    units = group * per_group + columns // kernel
                elif reader.kind == "concat":
                    units = units + reader.offsets[slot]
                elif reader.kind == "flatten":
                    units = units * reader.repeat + (self._draw(len(units)) * reader.repeat).long()
                arrivals[reader].append((walkers, units))

    def _go_back(
        self,
        arrivals: dict[Node, list[Group]],
        passed: list[Group],
    ) -> None:
        for node in reversed(self._graph.nodes):
            if node.kind == "concat":
                for walkers, units in arrivals.pop(node):
                    for source, offset in zip(node.inputs, node.offsets, strict=True):
                        here = (units >= offset) & (units < offset + source.units)
                        arrivals[source].append((walkers[here], units[here] - offset))
                continue
            slots = [(node, slot) for slot in self._edges[node]]
            for (_, slot), walkers, units in self._spread(arrivals.pop(node), slots):
                source = node.inputs[slot]
                if node.kind == "layer":
                    columns, places = self._backward[node].step(units, self._draw(len(units)))
                    self._pass(node, walkers, places, passed)
                    per_group = source.units // node.groups
                    group = units // (node.units // node.groups)
                    units = group * per_group + columns // node.weight_shape[2:].numel()
                elif node.kind == "flatten":
                    units = units // node.repeat
                arrivals[source].append((walkers, units))

    def _spread(self, arrived: list[Group], ways: list[Way]) -> list[tuple[Way, torch.Tensor, torch.Tensor]]:
        """Send the walkers that arrived along `ways`, each as likely."""
        if not ways or not arrived:
            return []
        walkers = torch.cat([part for part, _ in arrived])
        units = torch.cat([part for _, part in arrived])
        if len(ways) == 1:
            return [(ways[0], walkers, units)]
        choice = (self._draw(len(walkers)) * len(ways)).long()
        return [(way, walkers[choice == index], units[choice == index]) for index, way in enumerate(ways)]

    def _pass(self, node: Node, walkers: torch.Tensor, places: torch.Tensor, passed: list[Group]) -> None:
        if node.layer not in self._starts:
            return
        kernel = node.weight_shape[2:].numel()
        if self._whole_kernels and kernel > 1:
            places = (places // kernel * kernel)[:, None] + torch.arange(kernel)
            walkers = walkers[:, None].expand_as(places)
        passed.append((walkers.flatten(), places.flatten() + self._starts[node.layer]))

    def _draw(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self._random, dtype=torch.float64) * (1 - 1e-9)

    def _table(self, node: Node, *, forward: bool) -> _Steps:
        shape = node.weight_shape
        weight = self._weights[node.layer].abs() if node.layer and node.layer in self._weights else torch.ones(shape)
        groups = node.groups
        split = weight.reshape(groups, shape[0] // groups, shape[1], -1)
        if forward == node.transposed:
            return _Steps.of(split.reshape(shape[0], -1), None)
        places = torch.arange(weight.numel()).view(split.shape)
        rows = groups * shape[1]
        return _Steps.of(split.transpose(1, 2).reshape(rows, -1), places.transpose(1, 2).reshape(rows, -1))


def _edges(graph: Graph) -> dict[Node, list[int]]:
    """Return, by node, which of its inputs walks may come from: at a sum, not those that another input contains."""
    ancestors: dict[Node, set[Node]] = {}
    for node in graph.nodes:
        ancestors[node] = {node}.union(*(ancestors[source] for source in node.inputs))
    edges = {node: list(range(len(node.inputs))) for node in graph.nodes}
    for node in graph.nodes:
        if node.kind == "sum":
            edges[node] = [
                slot
                for slot, source in enumerate(node.inputs)
                if not any(_roots(source) <= ancestors[other] for other in node.inputs if other is not source)
            ]
    return edges


def _roots(node: Node) -> set[Node]:
    """Return the layers, sums and inputs that a value consists of, without weights in between."""
    if node.kind in ("concat", "flatten"):
        return set().union(*(_roots(source) for source in node.inputs))
    return {node}
