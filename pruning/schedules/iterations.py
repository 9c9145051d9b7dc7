"""What a schedule declares about itself: how the number of kept weights falls over the iterations. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foundations.registry import Registered


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule(Registered):
    """How the number of kept weights falls from its start to its target over the iterations."""

    summary: str
    paper: str = ""
    kept_after: Callable[[int, int, int, int], int]
    """(start, target, iterations done, iterations in all) -> how many weights are kept; more iterations, no more."""

    def counts(self, start: int, target: int, iterations: int) -> list[int]:
        """Return how many weights are kept after each of `iterations` >= 1 iterations. The last is `target` exactly."""
        return [self.kept_after(start, target, done, iterations) for done in range(1, iterations)] + [target]
