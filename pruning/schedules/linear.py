"""The linear schedule."""

from __future__ import annotations

from pruning.schedules.iterations import Schedule


def kept_after(start: int, target: int, done: int, iterations: int) -> int:
    """Return start - (start - target) * done / iterations, rounded."""
    return target + round((start - target) * (iterations - done) / iterations)


LINEAR = Schedule(
    spelling="linear",
    summary="each iteration prunes the same number of weights",
    kept_after=kept_after,
)
