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

import torch

from foundations.random_streams import generator
from pruning.connectivity import between
from pruning.graph import Graph, trace
from pruning.mask import Mask
from pruning.scoring import Scoring
from pruning.selection import select
from pruning.walks import Group, Walks

_LARGEST_BATCH = 1 << 15
_SMALLEST_BATCH = 256
_NEW_PER_WALK_AT_LEAST = 1e-3


def phew(scoring: Scoring, keep: int, *, phew_kernels: bool = False) -> Mask:
    """Return the mask of the weights on random walks: exactly `keep` of them, those of the scoring's mask among them.

    phew_kernels: a walk keeps the whole kernel of each pair of channels that it passes (kernel-conserved PHEW).

    A walk that would exceed the number is dropped; of its weights and those of the walks after it, the ones between
    units with paths are taken until the number is reached. Should walks hardly find anything new (nearly dense levels),
    or should fewer weights be wanted than a path has, the rest are the largest weights, those between units with paths
    first.
    """
    assert scoring.input_shape is not None
    graph = trace(scoring.network, scoring.input_shape, in_place=True)
    weights = {name: weight.cpu() for name, weight in scoring.dense_weights.items()}
    taken = torch.cat([tensor.flatten() for tensor in scoring.mask.values()])
    walks = Walks(graph, weights, phew_kernels, generator("phew walks", scoring.seed))
    wanted = keep - int(torch.count_nonzero(taken))
    wanted, dropped = _take_walks(walks, taken, wanted)
    if wanted:
        on_path = torch.cat([part.flatten() for part in between(graph, _as_mask(taken, weights)).values()])
        wanted = _take_connected(dropped, taken, on_path, wanted)
        _take_largest(graph, weights, taken, on_path, wanted)
    return _as_mask(taken, weights)


def _as_mask(taken: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> Mask:
    parts = torch.split(taken, [weight.numel() for weight in weights.values()])
    return Mask({name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)})


def _take_walks(walks: Walks, taken: torch.Tensor, wanted: int) -> tuple[int, torch.Tensor]:
    """Take walks in their order, as long as they fit.

    Returns how many weights are still wanted, and the places of new weights on the walks after that, in their order.
    """
    dropped = torch.empty(0, dtype=torch.int64)
    while wanted > 0:
        batch = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, 2 * wanted // walks.depth))
        walkers, places = _first_visits(*walks.next(batch), taken)
        total = torch.bincount(walkers, minlength=batch).cumsum(0)
        fits = int(torch.count_nonzero(total <= wanted))
        taken[places[walkers < fits]] = True
        found = int(total[fits - 1]) if fits else 0
        wanted -= found
        if fits < batch or found < _NEW_PER_WALK_AT_LEAST * batch:
            late = walkers >= fits
            dropped = places[late][torch.argsort(walkers[late], stable=True)]
            break
    return wanted, dropped


def _take_connected(dropped: torch.Tensor, taken: torch.Tensor, on_path: torch.Tensor, wanted: int) -> int:
    """Take the dropped places that lie between units with paths, in order; return how many are still wanted."""
    places = dropped[on_path[dropped]][:wanted]
    taken[places] = True
    return wanted - len(places)


def _take_largest(
    graph: Graph, weights: Mapping[str, torch.Tensor], taken: torch.Tensor, on_path: torch.Tensor, wanted: int
) -> None:
    """Take the largest weights between units with paths; if those are not enough, of layers that run; then of all."""
    if wanted == 0:
        return
    run = {node.layer for node in graph.layers}
    runs = torch.cat([torch.full((weight.numel(),), name in run) for name, weight in weights.items()])
    size = torch.cat([weight.abs().flatten().double() for weight in weights.values()])
    rank = size + (float(size.max()) + 1) * (on_path.double() + runs)
    left = Mask({"all": ~taken})
    taken |= select({"all": rank}, left, wanted)["all"]


def _first_visits(walkers: torch.Tensor, places: torch.Tensor, taken: torch.Tensor) -> Group:
    """Return, for each place that is not taken yet, the first walker that visits it."""
    new = ~taken[places]
    count = int(walkers.max()) + 1
    visits = (places[new] * count + walkers[new]).sort().values
    places, walkers = visits // count, visits % count
    first = torch.ones_like(places, dtype=torch.bool)
    first[1:] = places[1:] != places[:-1]
    return walkers[first], places[first]
