"""The declaration of an allocation, and the arithmetic that allocations share: pure functions, no torch.

Most allocations are a proportion: layer l keeps min(n_l, c * p_l) of its n_l weights, where c makes the sum right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from foundations.registry import Registered

if TYPE_CHECKING:
    from pruning.masks.mask import Mask
    from pruning.method import Method
    from pruning.scoring.masked_network import Scores

Shape = tuple[int, ...]
"""(n_out, n_in, kernel sides ...)"""
Counts = dict[str, int]
KeptPerLayer = Callable[[Mapping[str, Shape], Mapping[str, int], int], Counts]
PublishedCounts = Callable[[Mapping[str, Shape], Mapping[str, int], float, "Method"], Counts]
"""(shapes of the layers in the order of modules, available weights of each, number to keep, method) -> kept of each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Allocation(Registered):
    """An allocation of a number of kept weights to the layers, independent of the scores."""

    summary: str
    paper: str = ""
    tested_against: str = ""
    """The code whose counts a test compares, as owner/repository."""
    differences: str = ""
    """Known differences from the paper or its code, in a sentence or two."""
    kept_per_layer: KeptPerLayer | None = None
    """(shapes of the layers, available weights of each, number to keep) -> number of kept weights of each layer.

    The results add up to the number. None: the weights of all layers are ranked together.
    """
    needs_order: bool = False
    """Whether the layers must be given in the order in which they run."""
    normalize: Callable[[Scores, Mask, Method], Scores] | None = None
    """(scores, weights to choose from, method) -> the scores by which the weights of all layers are ranked together."""
    published: Mapping[str, PublishedCounts] = field(default_factory=dict)
    """The counts of published code bases, by the `rounding` that asks for them. They need not add up to the number."""


def proportional(proportion: Callable[[Shape], int]) -> KeptPerLayer:
    """Return the function that keeps in each layer a number of weights proportional to a function of its shape."""
    return lambda shapes, room, keep: apportion({name: proportion(shape) for name, shape in shapes.items()}, room, keep)


def apportion(proportions: Mapping[str, int | Fraction], room: Mapping[str, int], keep: int) -> Counts:
    """Return whole numbers that add up to `keep`, as near as possible to min(room, c * proportion) with a common c.

    Computed in rational arithmetic. `keep` must not exceed the room.
    """
    exact: dict[str, Fraction] = {}
    left, open_names = Fraction(keep), sorted(proportions)
    while open_names:
        factor = left / sum(proportions[name] for name in open_names)
        full = [name for name in open_names if factor * proportions[name] >= room[name]]
        for name in full or open_names:
            exact[name] = Fraction(room[name]) if full else factor * proportions[name]
            left -= exact[name]
        open_names = [name for name in open_names if name not in exact]
    return rounded_to(exact, keep)


def rounded_to(exact: Mapping[str, Fraction | float], keep: int) -> Counts:
    """Return numbers rounded so that they add up to `keep`, which is their sum.

    The remainder goes to the largest fractions and, among equal ones, to the alphabetically first name.
    """
    counts = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: keep - sum(counts.values())]:
        counts[name] += 1
    return counts


def is_convolution(shape: Shape) -> bool:
    """Whether a weight has kernel sides, and so is not a linear layer's."""
    return len(shape) > 2


def within(counts: Mapping[str, float], room: Mapping[str, int]) -> Counts:
    """Return counts as whole numbers between 0 and the room of each layer."""
    return {name: max(0, min(room[name], int(count))) for name, count in counts.items()}
