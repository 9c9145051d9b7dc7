"""Pruning to an effective density (Vysogorets & Kempe 2023): of the kept weights, only those on a path count.

A kept weight that no path of kept weights joins to the input and the output changes nothing. So methods are compared at
one density of the weights on paths, and the number of kept weights is an outcome, found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.paths.connectivity import effective
from pruning.paths.graph import Graph, trace
from pruning.scoring.inputs import ScoringInputs
from pruning.weights.named_weights import plain

OPTION = "effective_density"


def graph_of(model: nn.Module, inputs: ScoringInputs) -> Graph:
    """Return the graph of a network's units. Raises: UsageError where they cannot be followed."""
    if inputs.input_shape is None and inputs.example is None:
        raise UsageError("it needs to run the network: pass input_shape or examples.", OPTION)
    if inputs.input_shape is None:
        raise UsageError("paths begin at one input of numbers; this network takes several inputs, or tokens.", OPTION)
    try:
        return trace(plain(model), inputs.input_shape)
    except UsageError as error:
        raise UsageError(error.reason, OPTION) from error


def fewest_kept(target: float, graph: Graph, mask_keeping: Callable[[int], Mask], lowest: int, highest: int) -> int:
    """Return the least number of kept weights, `lowest` to `highest`, whose mask has an effective density of `target`.

    Found by bisection, so exact where fewer kept weights never have more on paths, as under one ranking of all weights.
    mask_keeping: the mask of a number of kept weights.

    Raises: UsageError if not even the mask of `highest` has that density.
    """

    def on_paths(keep: int) -> tuple[int, int]:
        mask = mask_keeping(keep)
        return effective(graph, mask).kept, mask.total

    def reaches(keep: int) -> bool:
        found, total = on_paths(keep)
        return found >= Fraction(repr(float(target))) * total

    if not reaches(highest):
        found, total = on_paths(highest)
        raise UsageError(
            f"with all {highest} weights to choose from, {found} of {total} lie on a path, a density of "
            f"{found / total:.6g}; choose at most that.",
            OPTION,
        )
    if reaches(lowest):
        return lowest
    while highest - lowest > 1:
        middle = (lowest + highest) // 2
        lowest, highest = (lowest, middle) if reaches(middle) else (middle, highest)
    return highest
