"""The level of pruning: one number, given in one of three ways, and the number of kept weights that follows.

*Sparsity* (the prune fraction) is the share of the prunable weights that are pruned; *density* is the share that is
kept, 1 - sparsity; *compression* is 1 / density.
"""

from __future__ import annotations

import functools
from fractions import Fraction

from foundations.errors import UsageError

DEFAULT_PRUNE_FRACTION = 0.8
LEVELS = ("prune_fraction", "density", "compression", "effective_density")
"""The hyperparameters of which any one gives the level."""
_DECIMALS = 12


@functools.lru_cache(maxsize=4096)
def prune_fraction_of(
    prune_fraction: float | None = None, density: float | None = None, compression: float | None = None
) -> float:
    """Return the level as a prune fraction: 0.8 if no level is given.

    Computed in rational arithmetic on the decimals as written and rounded to 12 decimals, so that a fraction of 0.8, a
    density of 0.2 and a compression of 5 are one number. The fraction and the density must be within 0 and 1, the
    compression at least 1.

    Raises: UsageError if two of the three disagree.
    """
    exact: dict[str, Fraction] = {}
    if prune_fraction is not None:
        exact["prune_fraction"] = _exact(prune_fraction)
    if density is not None:
        exact["density"] = 1 - _exact(density)
    if compression is not None:
        exact["compression"] = 1 - 1 / _exact(compression)
    levels = {name: float(round(level, _DECIMALS)) for name, level in exact.items()}
    if len(set(levels.values())) > 1:
        fractions = " and ".join(f"{level:g}" for level in levels.values())
        raise UsageError(f"they are prune fractions of {fractions}; give one of them.", *levels)
    return next(iter(levels.values()), DEFAULT_PRUNE_FRACTION)


def kept_of(total: int, prune_fraction: float) -> int:
    """Return the number of kept weights, of `total`, at a prune fraction.

    The number of pruned weights is total * prune_fraction, rounded to the nearest whole number (halves up). Computed
    exactly, on the fraction's decimals as written.
    """
    pruned = total * _exact(prune_fraction) + Fraction(1, 2)
    return total - pruned.numerator // pruned.denominator


def _exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))
