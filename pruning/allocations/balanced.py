"""The balanced allocation."""

from __future__ import annotations

from pruning.allocations.allocation import Allocation, proportional

BALANCED = Allocation(
    spelling="balanced",
    summary="the same number of weights in every layer, as far as it has them",
    kept_per_layer=proportional(lambda _: 1),
)
