"""The Erdős-Rényi allocation: an Erdős-Rényi random graph between channels has these densities."""

from __future__ import annotations

import math

from pruning.allocations.allocation import Allocation, proportional

ER = Allocation(
    spelling="er",
    known_as=("erdos_renyi",),
    summary="density proportional to (n_in + n_out) / (n_in * n_out): Erdős-Rényi",
    paper="Mocanu et al. 2018, Scalable training of artificial neural networks with adaptive sparse connectivity",
    differences=(
        "Counts add up. The paper keeps each weight with this probability; layers that would be more than dense are "
        "dense, and the others share the rest."
    ),
    kept_per_layer=proportional(lambda shape: (shape[0] + shape[1]) * math.prod(shape[2:])),
)
