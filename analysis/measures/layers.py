"""Shared code of measures for layers of networks and masks of two runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from foundations.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from analysis.measures.inputs import MeasuredRun
    from pruning.masks.mask import Mask
    from pruning.masks.overlap import Overlap


def in_order(model: nn.Module, names: Container[str]) -> list[str]:
    """Return the names that are parameters of a network, in the network's order."""
    return [name for name, _ in model.named_parameters(remove_duplicate=False) if name in names]


def overlap_of(first: MeasuredRun, second: MeasuredRun) -> tuple[dict[str, Overlap], Mask]:
    """Return the overlap of the masks of two runs, by tensor in the network's order, and the first mask.

    A run without a mask keeps everything. Raises: UsageError if neither has one, or their networks differ.
    """
    from pruning.masks.overlap import overlap_per_layer

    if first.mask() is None and second.mask() is None:
        raise UsageError(f"neither {first} nor {second} has a mask; measure runs that prune.")
    model = first.network()
    mask = first.mask_of(model)
    found = overlap_per_layer(mask, second.mask_of(second.network()))
    return {name: found[name] for name in in_order(model, found)}, mask
