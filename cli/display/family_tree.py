"""A run's line of descent and its children, as trees for people."""

from __future__ import annotations

from analysis.rows.lineage import Relative, ancestors, descendants
from foundations.storage.run import Run
from foundations.storage.store import of_upstream, short_address


def descent(run: Run) -> list[str]:
    """Return the run and its ancestors, a line each, indented by generation."""
    return [_line(each) for each in ancestors(run)]


def children(run: Run) -> list[str]:
    """Return the descendants of a run, a line each, indented by generation."""
    return [_line(each)[2:] for each in descendants(run)[1:]]


def _line(relative: Relative) -> str:
    run = relative.run
    return f"{'  ' * relative.generation}{short_address(run)}  {run.location.name}{of_upstream(run.upstream)}"
