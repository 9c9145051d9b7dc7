"""The overlap of two masks, and the overlap that is expected by chance.

Of the n weights of a layer, let one mask keep a, the other b, and both of them k. For masks that keep as many weights
at random places of the layer, k is hypergeometric:

    E[k] = a b / n,   Var[k] = a b (n - a) (n - b) / (n^2 (n - 1)).

Layers are independent, so both add up over layers. The expected overlap depends on a mask's densities per layer: two
masks that keep the same layers whole overlap much by that alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from foundations.errors import UsageError

if TYPE_CHECKING:
    from pruning.masks.mask import Mask


@dataclass(frozen=True)
class Overlap:
    """Counts of two masks, of one tensor or of several."""

    size: int = 0
    """Number of weights."""
    first: int = 0
    """Number of weights that the first mask keeps."""
    second: int = 0
    """Number of weights that the second mask keeps."""
    both: int = 0
    """Number of weights that both keep."""
    both_by_chance: float = 0.0
    """Expected number of weights that both keep by chance."""
    variance_by_chance: float = 0.0
    """Variance of the number that both keep by chance."""

    def __add__(self, other: Overlap) -> Overlap:
        return Overlap(*map(operator.add, astuple(self), astuple(other)))

    @property
    def differing(self) -> int:
        """Number of weights that exactly one mask keeps: the Hamming distance."""
        return self.first + self.second - 2 * self.both

    @property
    def of_smaller(self) -> float:
        """Return |A and B| / min(|A|, |B|): how much of the smaller mask is in the larger one (1 if it is empty)."""
        return _ratio(self.both, min(self.first, self.second))

    @property
    def jaccard(self) -> float:
        """Return |A and B| / |A or B| (1 if both are empty)."""
        return _ratio(self.both, self.first + self.second - self.both)

    @property
    def of_smaller_by_chance(self) -> float:
        """The mean of `of_smaller` by chance."""
        return _ratio(self.both_by_chance, min(self.first, self.second))

    @property
    def jaccard_by_chance(self) -> float:
        """The Jaccard index of masks with `both_by_chance` weights in common."""
        return _ratio(self.both_by_chance, self.first + self.second - self.both_by_chance)

    @property
    def beyond_chance(self) -> float:
        """(J - E) / (1 - E) of the Jaccard index J and its value E by chance: 0 by chance, 1 for equal masks.

        Masks that keep each tensor whole or not at all are equal even by chance; the result is 1.
        """
        chance = self.jaccard_by_chance
        return 1.0 if chance == 1 else (self.jaccard - chance) / (1 - chance)

    @property
    def over_chance(self) -> float:
        """Return both / both_by_chance: 1 by chance; NaN where chance leaves nothing in common."""
        return self.both / self.both_by_chance if self.both_by_chance else math.nan

    @property
    def standard_score(self) -> float:
        """(`both` - its mean) / its standard deviation by chance; NaN if that deviation is 0."""
        deviation = math.sqrt(self.variance_by_chance)
        return (self.both - self.both_by_chance) / deviation if deviation else math.nan


def overlap(first: Mask, second: Mask, layer: str | None = None) -> Overlap:
    """Return the overlap of two masks of one network: in total, or in one tensor.

    Raises: UsageError where the masks are of different networks, or have no such tensor.
    """
    layers = overlap_per_layer(first, second)
    if layer is not None and layer not in layers:
        raise UsageError(f"the masks have no tensor '{layer}'; they have {', '.join(layers)}.", "layer")
    return total_overlap(layers.values()) if layer is None else layers[layer]


def overlap_per_layer(first: Mask, second: Mask) -> dict[str, Overlap]:
    """Return the overlap of two masks, by tensor.

    Raises: UsageError where they are of different networks.
    """
    both, ones, others = first.intersection(second).kept_per_layer(), first.kept_per_layer(), second.kept_per_layer()
    return {name: _by_chance(tensor.numel(), ones[name], others[name], both[name]) for name, tensor in first.items()}


def total_overlap(layers: Iterable[Overlap]) -> Overlap:
    """Return the overlap over several tensors together."""
    return sum(layers, Overlap())


def _by_chance(size: int, first: int, second: int, both: int) -> Overlap:
    expected = first * second / size if size else 0.0
    # In this order, no product of four counts has to be divided: they are exact integers but large.
    spread = (size - first) * (size - second) / (size * (size - 1)) if size > 1 else 0.0
    return Overlap(size, first, second, both, expected, expected * spread)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
