"""Figures of the runs under a root, from Python. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.figures.figure import DrawnFigure
from analysis.figures.registry import FIGURES
from analysis.rows.runs import read_rows
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from


def plot(kind: str, /, root: Path | str | None = None, **options: Any) -> DrawnFigure:
    """Return a figure of runs. `.figure` is the matplotlib figure; `.write("a.pdf", "a.png")` writes files.

    kind: see `open_prune.py plot`. root: where runs are; by default OPEN_PRUNE_ROOT, or ~/open_prune_data.
    options: the flags of the kind: `plot("curves", where="strategy=snip1", x="compression")`.
    Raises: UsageError for a kind or an option that is not valid, and if there is nothing to draw.
    """
    found = FIGURES.find(kind)
    group = found.options.group_for(options)
    for name in options:
        if name not in group.names():
            raise UsageError(f"it is not an option of {kind}{choose_from(name, group.names())}", name)
    return found.drawn(read_rows(Environment.read(root).root), group.of(options))
