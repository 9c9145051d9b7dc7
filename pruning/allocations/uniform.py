"""The uniform allocation."""

from __future__ import annotations

import math

from pruning.allocations.allocation import Allocation, proportional

UNIFORM = Allocation(
    spelling="uniform",
    known_as=("local", "per_layer"),
    pattern="uniform|layerwise",
    examples=("layerwise",),
    summary="the same density in every layer (also called layerwise)",
    differences="Counts add up; Synaptic-Flow rounds in each layer (--rounding=synaptic_flow).",
    kept_per_layer=proportional(math.prod),
)
