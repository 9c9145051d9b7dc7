"""The Erdős-Rényi-kernel allocation: Erdős-Rényi, with the sides of the kernel counted like channels."""

from __future__ import annotations

from pruning.allocations.allocation import Allocation, proportional

ERK = Allocation(
    spelling="erk",
    summary="density proportional to (n_in + n_out + kernel sides) / (number of weights): Erdős-Rényi-kernel",
    paper="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners (appendix E)",
    kept_per_layer=proportional(sum),
)
