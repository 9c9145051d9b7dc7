"""How much of one mask is in another, and how much would be by chance.

Two masks that keep A and B of the same weights overlap by the Jaccard index |A and B| / |A or B|. Masks that keep as
many weights of each layer, at random places, have in expectation

    |A and B| = sum over layers of a * b / n

weights in common, with the kept weights a and b of a layer of n weights (the mean of the hypergeometric distribution).
"""

from __future__ import annotations

from dataclasses import dataclass

from foundations.errors import UsageError
from pruning.mask import Mask


@dataclass(frozen=True)
class Overlap:
    """How two masks overlap."""

    first: int
    """Weights that the first mask keeps."""
    second: int
    """Weights that the second mask keeps."""
    both: int
    """Weights that both keep."""
    both_by_chance: float
    """Weights that both would keep in expectation, if each kept as many of each layer at random places."""

    @property
    def jaccard(self) -> float:
        """|A and B| / |A or B|, from 0 to 1 (1 if both are empty)."""
        return self._jaccard(self.both)

    @property
    def jaccard_by_chance(self) -> float:
        """The Jaccard index of masks with `both_by_chance` weights in common."""
        return self._jaccard(self.both_by_chance)

    @property
    def beyond_chance(self) -> float:
        """(J - E) / (1 - E) of the Jaccard index J and that by chance E: 0 by chance, 1 for equal masks.

        Masks that must be equal, since they keep all of what they keep anything of, have 1.
        """
        chance = self.jaccard_by_chance
        return 1.0 if chance == 1 else (self.jaccard - chance) / (1 - chance)

    def _jaccard(self, both: float) -> float:
        either = self.first + self.second - both
        return both / either if either else 1.0


def overlap(first: Mask, second: Mask, layer: str | None = None) -> Overlap:
    """Return how two masks of one network overlap: in all, or in one tensor.

    Raises: UsageError where the masks are of different networks, or have no such tensor.
    """
    common = first.intersection(second)
    if layer is not None and layer not in common:
        raise UsageError(f"the masks have no tensor '{layer}'; they have {', '.join(common)}.", "layer")
    names = list(common) if layer is None else [layer]
    mine, theirs, both = first.kept_per_layer(), second.kept_per_layer(), common.kept_per_layer()
    return Overlap(
        first=sum(mine[name] for name in names),
        second=sum(theirs[name] for name in names),
        both=sum(both[name] for name in names),
        both_by_chance=sum(mine[name] * theirs[name] / max(1, first[name].numel()) for name in names),
    )
