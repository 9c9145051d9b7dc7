"""The declaration of a schedule of the number of kept weights over the iterations. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from foundations.registry import Registered


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule(Registered):
    """A schedule of the number of kept weights, from its start to its target over the iterations."""

    summary: str
    paper: str = ""
    kept_after: Callable[[int, int, int, int], int]
    """(start, target, iterations done, iterations in all) -> number of kept weights, which must not increase."""

    def counts(self, start: int, target: int, iterations: int) -> list[int]:
        """Return the number of kept weights after each of `iterations` >= 1 iterations. The last one is `target`."""
        return [self.kept_after(start, target, done, iterations) for done in range(1, iterations)] + [target]
