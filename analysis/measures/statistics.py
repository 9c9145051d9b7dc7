"""Statistics of two columns of numbers, for several measures."""

from __future__ import annotations

import math
from collections.abc import Sequence


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Pearson's correlation of two columns; NaN if one is constant or has values that are not finite."""
    return _moments(x, y)[0]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope b of the least-squares line y = a + b x; NaN as for `correlation`."""
    return _moments(x, y)[1]


def logarithms(x: Sequence[float]) -> list[float]:
    """Return natural logarithms: -inf of 0."""
    return [math.log(value) if value > 0 else -math.inf for value in x]


def power_law(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Return correlation and slope of the logarithms of y over those of x."""
    places = logarithms(x), logarithms(y)
    return {"correlation": correlation(*places), "slope": slope(*places)}


def _moments(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    if not x or not all(map(math.isfinite, (*x, *y))):
        return math.nan, math.nan
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    # Scaled, so that no square overflows: synaptic flow may reach 1e139.
    dx, dy = [value - mean_x for value in x], [value - mean_y for value in y]
    most_x, most_y = max(map(abs, dx)), max(map(abs, dy))
    if not most_x or not most_y:
        return math.nan, math.nan
    dx, dy = [value / most_x for value in dx], [value / most_y for value in dy]
    xx, yy = math.fsum(a * a for a in dx), math.fsum(b * b for b in dy)
    xy = math.fsum(a * b for a, b in zip(dx, dy, strict=True))
    return xy / math.sqrt(xx * yy), xy / xx * (most_y / most_x)
