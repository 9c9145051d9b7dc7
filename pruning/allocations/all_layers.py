"""The global allocation: layers have no shares; all weights are ranked together."""

from __future__ import annotations

from pruning.allocations.allocation import Allocation

GLOBAL = Allocation(spelling="global", summary="the weights of all layers are ranked together")
