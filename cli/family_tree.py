"""A run's line of descent and its children, as trees for people."""

from __future__ import annotations

from collections.abc import Callable

from foundations.run import Run
from foundations.store import short_address, source_runs, users_by_location


def descent(run: Run) -> list[str]:
    """Return the run, the runs that it draws on, theirs and so on, a line each, indented by generation."""
    return _tree(run, lambda of: source_runs(of) if of.exists() else [])


def children(run: Run) -> list[str]:
    """Return the runs that draw on a run, theirs and so on, a line each, indented by generation."""
    users = users_by_location(run.root)
    return [line[2:] for line in _tree(run, lambda of: users.get(of.location, []))[1:]]


def _tree(run: Run, next_to: Callable[[Run], list[Run]]) -> list[str]:
    """Return a line for each run that is reached from `run`. A run that was drawn already is not drawn further."""
    lines, drawn, waiting = [], set(), [(0, run)]
    while waiting:
        depth, current = waiting.pop()
        again = current.location in drawn
        drawn.add(current.location)
        lines.append(f"{'  ' * depth}{short_address(current)}  {current.location.name}")
        if not again:
            waiting += [(depth + 1, other) for other in reversed(next_to(current))]
    return lines
