"""The balanced allocation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruning.allocations.allocation import Allocation, Counts, Shape, proportional, within

if TYPE_CHECKING:
    from pruning.method import Method


def turboprune(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, _: Method) -> Counts:
    """Return TurboPrune's counts: a full layer's surplus goes to later layers, divided by one layer too many.

    So fewer weights are left than `keep` once a layer is full.
    """
    share, counts = keep / len(shapes), {}
    for place, (name, shape) in enumerate(shapes.items()):
        size = math.prod(shape)
        density = min(1.0, share / size)
        if density == 1:
            share += (share - size) / (len(shapes) - place)
        counts[name] = size - int((1 - density) * size)
    return within(counts, room)


BALANCED = Allocation(
    spelling="balanced",
    pattern="balanced|er_balanced",
    examples=("er_balanced",),
    summary="the same number of weights in every layer, as far as it has them (also called er_balanced)",
    paper="Gadhikar et al. 2023, Why Random Pruning Is All We Need to Start Sparse",
    tested_against="nelaturuharsha/TurboPrune",
    differences=(
        "Counts add up. In the published code they do not once a layer is full (0.283 in place of 0.5 for "
        "LeNet-300-100): --rounding=turboprune, which keeps the counts of its random_balanced; its ER-balanced draws "
        "each weight by itself, and keeps as many in expectation."
    ),
    kept_per_layer=proportional(lambda _: 1),
    published={"turboprune": turboprune},
)
