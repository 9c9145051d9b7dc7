"""From densities of layers to counts, as the effective-sparsity code rounds them (Vysogorets & Kempe 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruning.allocations.allocation import Counts, Shape, within

if TYPE_CHECKING:
    from pruning.method import Method

EFFECTIVE_SPARSITY = "effective_sparsity"


def counts_at(
    densities: Mapping[str, float], shapes: Mapping[str, Shape], room: Mapping[str, int], method: Method
) -> Counts:
    """Return the counts at densities: its random pruner prunes int(s n) of n weights, any other rounds half to even."""
    counts = {}
    for name, density in densities.items():
        pruned = (1 - density) * math.prod(shapes[name])
        counts[name] = math.prod(shapes[name]) - (int(pruned) if method.spelling == "random" else round(pruned))
    return within(counts, room)
