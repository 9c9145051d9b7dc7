"""The table of a report: one row per line, one column per level. Imports no torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from analysis.report.page import Line, Page, Point
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
    counts = Counter(point.level for point in page.points if not page.lines[point.line].is_dense)
    return tuple(sorted(sorted(page.levels, key=lambda level: -counts[level])[:MOST_LEVELS], reverse=True))


def table_of(page: Page) -> list[TableRow]:
    """Return the rows. At each level, the highest (or lowest) mean of pruned networks, as printed, is marked best.

    Only lines of the same network and dataset are compared.
    """
    found = {(point.line, point.level): point for point in page.points}
    means: dict[tuple[tuple[str, ...], float], list[float]] = {}
    for point in page.points:
        line = page.lines[point.line]
        if point.mean is not None and not line.is_dense:
            means.setdefault((task_of(line), point.level), []).append(point.mean)
    pick = max if page.value.is_better_higher else min
    best = {key: number(pick(values), page.value) for key, values in means.items() if len(values) > 1}
    rows = []
    for place, line in enumerate(page.lines):
        if line.is_dense:
            points = [point for point in page.points if point.line == place]
            rows.append(TableRow(line.label, True, tuple(_cell(point, page, None) for point in points)))
        else:
            task = task_of(line)
            made = [_cell(found.get((place, level)), page, best.get((task, level))) for level in levels_of(page)]
            rows.append(TableRow(line.label, False, tuple(made)))
    return rows


def task_of(line: Line) -> tuple[str, ...]:
    """Return the network and the dataset of a line, as far as they tell lines apart."""
    return tuple(line.keys[name] for name in ("dataset_name", "model_name") if name in line.keys)


def number(value: float, of: Value) -> str:
    """Return a number as text for the report: fractions in percent with two decimals."""
    return f"{100 * value:.2f}" if of.is_fraction else f"{value:.4g}"


def _cell(point: Point | None, page: Page, best: str | None) -> TableCell:
    if point is None:
        return TableCell(note="not computed")
    if point.is_mixed:
        return TableCell(n=len(point.runs), note="different experiments")
    if point.mean is None:
        return TableCell(note=f"0 of {point.left_out} count")
    mean = number(point.mean, page.value)
    spread = ""
    if point.half_width is not None:
        spread = f"± {number(point.half_width, page.value)}"
    elif point.low is not None and point.high is not None:
        spread = f"[{number(point.low, page.value)}, {number(point.high, page.value)}]"
    return TableCell(mean, spread, len(point.runs), mean == best)
