"""The table of a report: one row per line, one column per level. Imports no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from analysis.compare.comparison import Line
from analysis.compare.points import Point
from analysis.report.page import Page, level_of
from analysis.rows.result_value import Value

MOST_LEVELS = 40
"""The most columns of a table: more would not help a reader."""


@dataclass(frozen=True)
class TableCell:
    """The content of a cell of the table."""

    mean: str = ""
    """The mean as text; empty if there is none."""
    spread: str = ""
    """With its sign or brackets; empty for a single run."""
    n: int = 0
    is_best: bool = False
    note: str = ""
    """The text of a cell without a mean."""


@dataclass(frozen=True)
class TableRow:
    """A line of the table."""

    label: str
    is_dense: bool
    cells: tuple[TableCell, ...]
    """One for each level of `levels_of`; a dense network has a single cell for all."""


def levels_of(page: Page) -> tuple[float, ...]:
    """Return the levels of the table: all, or at most MOST_LEVELS, preferring levels that most lines have."""
    counts = Counter(level_of(point) for point in page.comparison.pruned)
    return tuple(sorted(sorted(page.levels, key=lambda level: -counts[level])[:MOST_LEVELS], reverse=True))


def table_of(page: Page) -> list[TableRow]:
    """Return the rows. At each level, the highest (or lowest) mean of pruned networks, as printed, is marked best.

    Only lines of the same network and dataset are compared.
    """

    def group(line: Line, point: Point) -> tuple[list[str], float]:
        keys = page.keys_of(line)
        return [keys[name] for name in ("dataset_name", "model_name") if name in keys], level_of(point)

    best = page.comparison.best(lambda line, point: str(group(line, point)))
    rows = []
    for line in page.comparison.lines:
        at = {level_of(point): point for point in line.points}
        shown = line.points if line.is_dense else [at.get(level) for level in levels_of(page)]
        cells = []
        for point in shown:
            mean = None if line.is_dense or point is None else best.get(str(group(line, point)))
            cells.append(_cell(point, page, mean))
        rows.append(TableRow(line.label, line.is_dense, tuple(cells)))
    return rows


def number(value: float, of: Value) -> str:
    """Return a number as text for the report: fractions in percent with two decimals."""
    return f"{100 * value:.2f}" if of.is_fraction else f"{value:.4g}"


def _cell(point: Point | None, page: Page, best: float | None) -> TableCell:
    if point is None:
        return TableCell(note="not computed")
    if point.differing:
        return TableCell(n=point.n, note="different experiments")
    if not point.n:
        return TableCell(note=f"0 of {len(point.left_out)} count")
    mean, spread = point.texts(page.spread, lambda value: number(value, page.value))
    return TableCell(mean, spread, point.n, best is not None and mean == number(best, page.value))
