"""Lineage of runs: ancestors, which a run depends on, and descendants, which depend on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analysis.rows.run_row import Row
from foundations.description.address import MAIN, Location
from foundations.storage.run import Run
from foundations.storage.store import source_runs, users_by_location


@dataclass(frozen=True)
class Relative:
    """A run, and its distance from another run in edges."""

    run: Run
    generation: int


def ancestors(run: Run) -> list[Relative]:
    """Return the run and all runs that it depends on, directly or indirectly, each below its dependent.

    A run with several dependents appears below each of them, its own ancestors only below the first.
    Raises: DamagedError if one of the descriptions cannot be read.
    """
    return _relatives(run, lambda of: source_runs(of) if of.exists() else [])


def descendants(run: Run) -> list[Relative]:
    """Return the run and all runs that depend on it, directly or indirectly, each below its source.

    A run with several sources appears below each of them, its own descendants only below the first. Unreadable runs
    are excluded.
    """
    users = users_by_location(run.root)
    return _relatives(run, lambda of: users.get(of.location, []))


def by_descent(rows: Sequence[Row]) -> list[Row]:
    """Return each row after its parent, denser siblings first, the newest line of runs first."""
    known = {row.run.location for row in rows}
    children: dict[Location | None, list[Row]] = {}
    for row in rows:
        children.setdefault(_parent(row, known), []).append(row)

    def line(first: Row) -> list[Row]:
        found, waiting = [], [first]
        while waiting:
            row = waiting.pop()
            found.append(row)
            below = children.get(row.run.location, [])
            waiting += sorted(below, key=lambda child: (child.branch, child.sparsity or 0.0), reverse=True)
        return found

    lines = [line(first) for first in children.get(None, [])]
    lines.sort(key=lambda rows: min(math.inf if row.age is None else row.age for row in rows))
    return [row for rows in lines for row in rows]


def _parent(row: Row, known: set[Location]) -> Location | None:
    """Return the location of a row's parent, or None for the first of a line."""
    main = replace(row.run.location, name=MAIN)
    # The mask's run comes first among the sources, so that levels of a lottery follow each other.
    for source in row.sources:
        if source in known and source != main:
            return source
    return main if main in known and row.run.location != main else None


def _relatives(run: Run, next_to: Callable[[Run], list[Run]]) -> list[Relative]:
    found, seen, waiting = [], set(), [Relative(run, 0)]
    while waiting:
        current = waiting.pop()
        found.append(current)
        if current.run.location not in seen:
            seen.add(current.run.location)
            below = [Relative(other, current.generation + 1) for other in next_to(current.run)]
            waiting += reversed(below)
    return found
