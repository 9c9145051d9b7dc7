"""Uniform+ (Gale et al. 2019): uniform, but for a dense first convolution and a fifth of the last layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from foundations.errors import UsageError
from pruning.allocations.allocation import Allocation, Counts, Shape, apportion, is_convolution, within
from pruning.allocations.effective_sparsity import EFFECTIVE_SPARSITY, counts_at

if TYPE_CHECKING:
    from pruning.method import Method

LEAST_OF_LAST = Fraction(1, 5)


def _held(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float) -> Counts:
    """Return the counts of the layers that do not have the density of the others. Raises: UsageError."""
    names = list(shapes)
    if len(names) < 2:
        return {}
    first, last = names[0], names[-1]
    held = {first: room[first]} if is_convolution(shapes[first]) else {}
    size, least = sum(room[name] for name in names if name not in held), round(LEAST_OF_LAST * math.prod(shapes[last]))
    if (keep - sum(held.values())) * room[last] < least * size:
        held[last] = min(room[last], least)
    if sum(held.values()) > keep:
        reason = f"uniform_plus keeps {sum(held.values())} weights of {' and '.join(held)}; the level leaves {keep:g}."
        raise UsageError(reason, "allocation")
    return held


def uniform_plus(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: int) -> Counts:
    """Return counts with a dense first convolution, at least 0.2 of the last layer, and one density for the others.

    Raises: UsageError where the level leaves fewer weights than these two layers keep.
    """
    held = _held(shapes, room, keep)
    others = {name: math.prod(shape) for name, shape in shapes.items() if name not in held}
    return held | apportion(others, {name: room[name] for name in others}, keep - sum(held.values()))


def _densities(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float) -> dict[str, float]:
    held = _held(shapes, room, keep)
    others = [name for name in shapes if name not in held]
    size = sum(room[name] for name in others)
    density = (keep - sum(held.values())) / size if size else 0.0
    return {name: held[name] / max(1, room[name]) if name in held else density for name in shapes}


def effective_sparsity(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, method: Method) -> Counts:
    """Return effective-sparsity's counts."""
    return counts_at(_densities(shapes, room, keep), shapes, room, method)


def layer_adaptive(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, _: Method) -> Counts:
    """Return LAMP's counts: the number to keep and each layer's number to prune are rounded half to even."""
    kept = sum(room.values()) - round(sum(room.values()) - keep)
    densities = _densities(shapes, room, kept)
    return within({name: room[name] - round((1 - densities[name]) * room[name]) for name in shapes}, room)


UNIFORM_PLUS = Allocation(
    spelling="uniform_plus",
    summary="uniform, but the first convolution is dense, and the last layer keeps 0.2 at least",
    paper="Gale et al. 2019, The State of Sparsity in Deep Neural Networks",
    differences=(
        "Counts add up. --rounding=lamp and effective_sparsity round each layer by itself, as these code bases do. A "
        "level that leaves fewer weights than the two layers keep is refused."
    ),
    kept_per_layer=uniform_plus,
    needs_order=True,
    published={EFFECTIVE_SPARSITY: effective_sparsity, "lamp": layer_adaptive},
)
