"""How a number of kept weights is spread over the layers, before any score is looked at."""

from __future__ import annotations

from foundations.errors import UsageError
from pruning.mask import Mask


def allocate(allocation: str, mask: Mask, keep: int) -> list[tuple[Mask, int]]:
    """Return groups of tensors within which weights are ranked together, and how many of each are kept.

    The groups are disjoint, cover `mask`, and their numbers add up to `keep`.
    """
    if allocation == "global":
        return [(mask, keep)]
    raise UsageError(f"--allocation: '{allocation}' is not possible. Possible: global.")
