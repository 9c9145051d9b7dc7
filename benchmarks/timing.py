"""Timing on a noisy machine: compared operations run in turn, and the median of the ratios counts."""

from __future__ import annotations

import operator
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_BOUND = re.compile(r"(at most|at least|below|above) ([\d.]+)")
_HOLDS: dict[str, Callable[[Any, Any], bool]] = {
    "at most": operator.le,
    "at least": operator.ge,
    "below": operator.lt,
    "above": operator.gt,
}


class Median(float):
    """The median of values, stored with them."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Median:
        """Return the median of at least one value."""
        found = cls(statistics.median(values))
        found.values = tuple(values)
        return found

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile; for fewer than four values, the lowest and the highest."""
        if len(self.values) < 4:
            return min(self.values), max(self.values)
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Row:
    """A measurement: a ratio, or a value with a unit; its aim; and the method of measuring."""

    what: str
    ratio: float
    """A `Median`, if it was measured several times."""
    aim: str
    """Such as `at most 1.3`; empty without an aim."""
    detail: str
    unit: str = ""
    """Empty for a ratio."""

    @property
    def is_met(self) -> bool | None:
        """Whether it meets the aim; None without one."""
        found = _BOUND.search(self.aim)
        return None if found is None else _HOLDS[found[1]](self.ratio, float(found[2]))

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data, with the number of measurements and their quartiles."""
        many = self.ratio if isinstance(self.ratio, Median) else Median.of([self.ratio])
        low, high = many.quartiles
        return {
            "what": self.what,
            "value": float(self.ratio),
            "unit": self.unit,
            "aim": self.aim.removeprefix("aim: "),
            "is_met": self.is_met,
            "n": len(many.values),
            "low": low,
            "high": high,
            "detail": self.detail,
        }


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds of one call."""
    start = clock()
    work()
    return clock() - start


def in_turn(
    works: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time several functions in the order A B C A B C ..., after one uncounted round."""
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work, clock))
    return times


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Median:
    """Return the median of the ratios, pair by pair."""
    return Median.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def matrix_product_rate(size: int = 2048) -> Callable[[], float]:
    """Return a function that computes one float32 matrix product and returns its multiply-adds."""
    import torch

    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)

    def work() -> float:
        torch.mm(a, b, out=out)
        return float(size) ** 3

    return work
