"""A run's line of descent and its children, as trees for people."""

from __future__ import annotations

from branches.lineage import source_runs, trunk_of
from cli.addresses import all_runs, short_address
from foundations.address import MAIN
from foundations.errors import OpenPruneError
from foundations.run import Run


def parents_of(run: Run) -> list[Run]:
    """Return the runs whose states or mask a run draws on; its trunk where it names no other."""
    if run.location.part == MAIN:
        return []
    return source_runs(run) or [trunk_of(run)]


def descent(run: Run) -> list[str]:
    """Return the run, its parents, theirs and so on, a line each, indented by generation."""
    lines = [f"{short_address(run)}  {run.location.part}"]
    for parent in parents_of(run):
        lines += [f"  {line}" for line in descent(parent)]
    return lines


def children(run: Run) -> list[str]:
    """Return the runs that draw on a run, theirs and so on, a line each, indented by generation."""
    below = _users(run)

    def tree(of: Run) -> list[str]:
        lines = []
        for child in below.get(str(of.location), []):
            lines += [f"{short_address(child)}  {child.location.part}", *(f"  {line}" for line in tree(child))]
        return lines

    return tree(run)


def users_of(run: Run) -> list[Run]:
    """Return every run that draws on a run, directly or not, and every branch in a trunk's directory; parents first."""
    below = _users(run)
    beside = [other for other in all_runs(run.root) if other.folder.parent == run.folder.parent]
    waiting = [other for other in beside if other.location.part != MAIN] if run.location.part == MAIN else []
    waiting += below.get(str(run.location), [])
    found: dict[str, Run] = {}
    while waiting:
        user = waiting.pop(0)
        if str(user.location) not in found:
            found[str(user.location)] = user
            waiting += below.get(str(user.location), [])
    return list(found.values())


def _users(run: Run) -> dict[str, list[Run]]:
    """Return, by location, the runs that draw on the run there."""
    below: dict[str, list[Run]] = {}
    for other in all_runs(run.root):
        try:
            for parent in parents_of(other):
                below.setdefault(str(parent.location), []).append(other)
        except OpenPruneError:
            continue  # a damaged run names no parents; `verify` says what is wrong with it
    return below
