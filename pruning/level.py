"""How much to prune: one number with three spellings, and the whole number of weights that it stands for.

*Sparsity* (the prune fraction) is the share of the prunable weights that are pruned; *density* is the share that is
kept, 1 - sparsity; *compression* is 1 / density.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from foundations.errors import UsageError

DEFAULT_PRUNE_FRACTION = 0.8
_DECIMALS = 12


def prune_fraction_of(
    *,
    prune_fraction: float | None = None,
    density: float | None = None,
    compression: float | None = None,
    names: tuple[str, str, str] = ("prune_fraction", "density", "compression"),
) -> float | None:
    """Return the level as a prune fraction, or None where no spelling is given.

    Computed in rational arithmetic on the decimals as written and rounded to 12 decimals, so that a fraction of 0.8, a
    density of 0.2 and a compression of 5 are one number.

    Raises: UsageError where a spelling is out of its range, or where two of them disagree; it names them by `names`.
    """
    spellings: list[tuple[str, float | None, Callable[[Fraction], Fraction], int, int | None]] = [
        (names[0], prune_fraction, lambda level: level, 0, 1),
        (names[1], density, lambda level: 1 - level, 0, 1),
        (names[2], compression, lambda level: 1 - 1 / level, 1, None),
    ]
    given = []
    for name, value, as_fraction, lowest, highest in spellings:
        if value is None:
            continue
        if not lowest <= value <= (float("inf") if highest is None else highest) or value == float("inf"):
            possible = (
                f"a number from {lowest} to {highest}" if highest is not None else f"a number of at least {lowest}"
            )
            raise UsageError(f"{value} is not a valid value; it takes {possible}.", name)
        given.append((name, value, float(round(as_fraction(Fraction(repr(value))), _DECIMALS))))
    if not given:
        return None
    first_name, first_value, level = given[0]
    for name, value, other in given[1:]:
        if other != level:
            raise UsageError(
                f"{value} disagrees with {first_name} {first_value}: "
                f"they are prune fractions of {other:g} and {level:g}. Give one of them.",
                name,
            )
    return level


def kept_of(total: int, prune_fraction: float) -> int:
    """Return how many of `total` weights are kept at a prune fraction.

    The number that is pruned is the whole number nearest to total * prune_fraction; a half is pruned. Computed exactly,
    on the fraction's decimals as written.
    """
    pruned = Fraction(total) * Fraction(repr(prune_fraction)) + Fraction(1, 2)
    return total - pruned.numerator // pruned.denominator
