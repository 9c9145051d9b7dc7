"""The global allocation: no layer has a share of its own."""

from __future__ import annotations

from pruning.allocations.allocation import Allocation

GLOBAL = Allocation(spelling="global", summary="the weights of all layers are ranked together")
