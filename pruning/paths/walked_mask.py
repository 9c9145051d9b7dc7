"""From random walks to a mask of an exact number of weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruning.masks.mask import Mask
from pruning.masks.selection import select
from pruning.paths.connectivity import on_path
from pruning.paths.graph import Graph
from pruning.paths.walks import Group, Walks

_LARGEST_BATCH = 1 << 15
_SMALLEST_BATCH = 256
_NEW_PER_WALK_AT_LEAST = 1e-3


def mask_from_walks(walks: Walks, graph: Graph, weights: Mapping[str, torch.Tensor], mask: Mask, keep: int) -> Mask:
    """Return a mask of exactly `keep` weights: the kept weights of `mask`, and the weights on walks, walk by walk.

    A walk that would exceed the number is dropped; then weights of it and of later walks that lie between units with
    paths are taken until the number is reached. If walks find hardly any new weights (at levels that are nearly dense),
    or if fewer weights are missing than a path has, the rest are the largest weights, weights between units with paths
    first.
    """
    taken = torch.cat([tensor.flatten() for tensor in mask.values()])
    wanted, dropped = _take_walks(walks, taken, keep - int(torch.count_nonzero(taken)))
    if wanted:
        connected = torch.cat([part.flatten() for part in on_path(graph, _as_mask(taken, weights)).values()])
        found = dropped[connected[dropped]][:wanted]
        taken[found] = True
        _take_largest(graph, weights, taken, connected, wanted - len(found))
    return _as_mask(taken, weights)


def _as_mask(taken: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> Mask:
    parts = torch.split(taken, [weight.numel() for weight in weights.values()])
    return Mask({name: part.view(weights[name].shape) for name, part in zip(weights, parts, strict=True)})


def _take_walks(walks: Walks, taken: torch.Tensor, wanted: int) -> tuple[int, torch.Tensor]:
    """Take walks in their order, as long as they fit.

    Returns the number of weights that are still missing, and the places of new weights on later walks, in order.
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


def _take_largest(
    graph: Graph, weights: Mapping[str, torch.Tensor], taken: torch.Tensor, connected: torch.Tensor, wanted: int
) -> None:
    """Take the largest weights: first between units with paths, then in layers that run, then in all layers."""
    if wanted == 0:
        return
    run = {node.layer for node in graph.layers}
    runs = torch.cat([torch.full((weight.numel(),), name in run) for name, weight in weights.items()])
    size = torch.cat([weight.abs().flatten().double() for weight in weights.values()])
    rank = size + (float(size.max()) + 1) * (connected.double() + runs)
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
