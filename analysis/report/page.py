"""The content of a report as plain data, collected from runs and drawn by the template. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from analysis.compare.cells import Cell, Cells, Key, cells, differences
from analysis.compare.labels import known_line, labels_for
from analysis.report.details import FEWEST_STEPS, Curve, Details, Layers, curves_of, details_of, layers_of, thinned
from analysis.report.lines import LEVEL_HYPERPARAMETERS, label_of, parts_of, telling_keys, text_of
from analysis.report.provenance import Provenance, RunLine, provenance_of
from analysis.report.warnings import Warned, warnings_of
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.rows.selection import Where, chosen

LEVEL = "density"
"""The key that groups the runs of a line: the achieved fraction of prunable weights that is left."""
LONGEST_TITLE = 44
"""The most letters of a title; if the names of lines are longer, it gives their number."""
PLURALS = {"strategy": "strategies", "branch": "branches", "dataset_name": "datasets", "model_name": "networks"}
MOST_VALUES = 12
"""The most values of a hyperparameter that are listed; more are counted."""
CURVE_POINTS = 150_000
"""The approximate number of points in all training curves of a page: some megabytes."""
FEWEST_POINTS, MOST_POINTS = 8, 150
"""The bounds on the number of points in a training curve."""


@dataclass(frozen=True)
class Line:
    """Cells that differ only in their level."""

    label: str
    keys: dict[str, str]
    is_dense: bool
    strategy: str | None
    """The strategy, which determines its colour."""


@dataclass(frozen=True)
class Point:
    """A cell in the report."""

    line: int
    """The index of its line in the page's lines."""
    level: float
    """The density, from 0 to 1, that groups its runs."""
    density: float | None
    """The mean of the achieved densities; None if no run counts."""
    mean: float | None
    """None if no run counts, or its runs are different experiments."""
    low: float | None
    high: float | None
    """The upper end of the spread; `low` is the lower end. Both are None for a single run."""
    half_width: float | None
    """The number after ±; None for a single run, and for the spread minmax."""
    runs: tuple[int, ...]
    """Indices of the runs that count, in the page's runs."""
    values: tuple[float, ...]
    """The value of each."""
    left_out: int
    """The number of excluded runs."""
    is_mixed: bool
    """Whether its runs are different experiments, so that there is no mean."""


@dataclass(frozen=True)
class Varying:
    """A hyperparameter in which the runs differ."""

    name: str
    values: tuple[str, ...]
    """The values, or some of them if there are many."""
    number: int
    role: str
    """line (it tells lines apart), level (the axis), averaged (means are over it), or empty (it varies together with
    one of these)."""


@dataclass(frozen=True)
class Page:
    """A report."""

    value: Value
    spread: str
    by: tuple[str, ...]
    """The keys that tell lines apart."""
    where: str
    lines: tuple[Line, ...]
    """Dense ones first."""
    levels: tuple[float, ...]
    """The levels of the pruned lines, descending."""
    points: tuple[Point, ...]
    varying: tuple[Varying, ...]
    common: dict[str, str]
    """The hyperparameters that all runs share."""
    training: tuple[dict[str, Curve], ...]
    """By point, then by metric."""
    no_curves: str
    """A message on why some or all metrics have no curves; empty if all have."""
    curve_points: int | None
    """The number of points that training curves were thinned to; None if they have all their points."""
    layers: tuple[Layers | None, ...]
    """By point."""
    runs: tuple[RunLine, ...]
    provenance: Provenance
    warnings: tuple[Warned, ...]

    @property
    def measured(self) -> str:
        """The value's name in words."""
        return str(self.value).replace("_", " ").replace("@", " at ")

    @property
    def title(self) -> str:
        """A short title of the comparison: at most two lines on a phone."""
        lines = [line for line in self.lines if not line.is_dense] or list(self.lines)
        named = _listed([line.label for line in lines])
        found = {key: list(dict.fromkeys(line.keys[key] for line in lines)) for key in self.by}
        kinds = [
            values[0] if len(values) == 1 else f"{len(values)} {PLURALS.get(key, f'values of {key}')}"
            for key, values in found.items()
        ]
        names = [*dict.fromkeys(name for name, _, _ in self.provenance.data if name)]
        data = [f" on {_listed(names)}", f" on {len(names)} datasets", ""] if names else [""]
        whole = [text for text in (named, _listed(kinds), f"{len(lines)} lines") if text]
        titles = [text + on for text in whole for on in data[: 1 if text is named and len(names) == 1 else 2]]
        return next((title for title in titles if len(title) <= LONGEST_TITLE), titles[-1][:LONGEST_TITLE])


def page_of(
    rows: Sequence[Row],
    value: Value,
    *,
    where: str | None = None,
    by: Sequence[str] | None = None,
    over: Collection[str] = (),
    spread: str = "std",
    labels: str | None = None,
) -> Page:
    """Return a report on the runs that `where` selects, and on the trainings that they prune.

    rows: all runs under a root.
    by: hyperparameters that tell lines apart; by default `telling_keys`.
    over: hyperparameters to average over on purpose.
    spread: one of `analysis.compare.cells.SPREADS`.
    labels: names of lines, in the format of `analysis.compare.labels.labels_for`.
    Raises: UsageError if a key, a label's line or the value is unknown, or no run is chosen.
    """
    keys = telling_keys(_compared(rows, where), over) if by is None else tuple(dict.fromkeys(by))
    found = cells(rows, [*keys, LEVEL], value, where=where, over=over, flags=dict.fromkeys(by or (), "lines"))
    runs, places = _runs_of(found)
    details = {row.location: details_of(row) for row in runs}
    lines = _lines(found, labels)
    points = tuple(_point(cell, found, lines, places, spread) for cell in found.cells)
    training, curve_points, no_curves = _training(found, details)
    varying, common = _hyperparameters(found, keys, over)
    names = [(lines[cell.is_dense, cell.keys[:-1]].label, percent(cell.keys[-1])) for cell in found.cells]
    run_lines, provenance = provenance_of(found, runs, details)
    return Page(
        value=value,
        spread=spread,
        by=keys,
        where=where or "",
        lines=tuple(lines.values()),
        levels=tuple(sorted({float(cell.keys[-1] or 0) for cell in found.pruned}, reverse=True)),
        points=points,
        varying=varying,
        common=common,
        training=training,
        no_curves=no_curves,
        curve_points=curve_points,
        layers=tuple(None if is_mixed_in(found, cell) else layers_of(cell, details) for cell in found.cells),
        runs=run_lines,
        provenance=provenance,
        warnings=warnings_of(found, names, details, provenance),
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def percent(level: Key) -> str:
    """Return a density as a percentage with three significant digits."""
    return f"{float(level or 0) * 100:.3g}%"


def _compared(rows: Sequence[Row], where: Where | None) -> list[Row]:
    return [row for row in chosen(rows, where) if row.is_readable]


def _runs_of(found: Cells) -> tuple[list[Row], dict[str, int]]:
    """Return all runs of the cells and the excluded ones, each once, and the index of each by location."""
    rows = [row for cell in found.cells for row in (*cell.rows, *(each.row for each in cell.left_out))]
    rows += [*(each.row for each in found.left_out), *found.untrained]
    by_location = {row.location: row for row in rows}
    return list(by_location.values()), {location: place for place, location in enumerate(by_location)}


def _lines(found: Cells, text: str | None) -> dict[tuple[bool, tuple[Key, ...]], Line]:
    """Return the lines by their keys. No two have the same label. text: the labels from the user."""
    names = found.by[:-1]
    keys = list(dict.fromkeys((cell.is_dense, cell.keys[:-1]) for cell in found.cells))
    wholes = [label_of(names, values, is_dense=is_dense) for is_dense, values in keys]
    known, lines = [], {}
    for (is_dense, values), whole in zip(keys, wholes, strict=True):
        members = [cell for cell in found.cells if (cell.is_dense, cell.keys[:-1]) == (is_dense, values)]
        if wholes.count(whole) > 1:
            whole += f" ({', '.join(f'{name}={text_of(value)}' for name, value in zip(names, values, strict=True))})"
        known.append(known_line(whole, parts_of(names, values, is_dense=is_dense), members))
    labels = labels_for(text, known)
    for (is_dense, values), line in zip(keys, known, strict=True):
        found_keys = dict(zip(names, values, strict=True))
        texts = {name: text_of(value) for name, value in found_keys.items()}
        strategy = found_keys.get("strategy")
        drawn_as = None if strategy is None else str(strategy)
        lines[is_dense, values] = Line(labels.of_line(line), texts, is_dense, drawn_as)
    return lines


def _point(
    cell: Cell, found: Cells, lines: Mapping[tuple[bool, tuple[Key, ...]], Line], places: Mapping[str, int], spread: str
) -> Point:
    is_mixed = is_mixed_in(found, cell)
    interval = None if is_mixed else cell.interval(spread)
    return Point(
        line=list(lines).index((cell.is_dense, cell.keys[:-1])),
        level=float(cell.keys[-1] or 0),
        density=cell.density,
        mean=None if is_mixed else cell.mean,
        low=interval[0] if interval else None,
        high=interval[1] if interval else None,
        half_width=None if is_mixed or spread == "minmax" else cell.half_width(spread),
        runs=tuple(places[row.location] for row in cell.rows),
        values=cell.values,
        left_out=len(cell.left_out),
        is_mixed=is_mixed,
    )


def is_mixed_in(found: Cells, cell: Cell) -> bool:
    """Return whether the runs of a cell are different experiments."""
    experiments = {(row.digest, row.fingerprint) for row in cell.rows}
    return len(experiments) > 1 and any(mixed.keys == cell.keys for mixed in found.mixed)


def _hyperparameters(
    found: Cells, keys: Sequence[str], over: Collection[str]
) -> tuple[tuple[Varying, ...], dict[str, str]]:
    """Return the hyperparameters in which the compared runs differ, and those that they share."""
    cells_compared = found.pruned or found.cells
    rows = [row for cell in cells_compared for row in (*cell.rows, *(each.row for each in cell.left_out))]
    rows = list({row.digest: row for row in rows}.values())
    roles = (
        dict.fromkeys(keys, "line") | dict.fromkeys(LEVEL_HYPERPARAMETERS, "level") | dict.fromkeys(over, "averaged")
    )
    varying = [
        Varying(name, tuple(_in_order(values)[:MOST_VALUES]), len(values), roles.get(name, ""))
        for name, values in differences(rows).items()
        if name != "fingerprint"
    ]
    order = {name: place for place, name in enumerate([*keys, *LEVEL_HYPERPARAMETERS, *over])}
    varying.sort(key=lambda each: order.get(each.name, len(order)))
    names = {each.name for each in varying}
    common = rows[0].hyperparameters if rows else {}
    return tuple(varying), {name: text_of(value) for name, value in common.items() if name not in names}


def _in_order(values: Sequence[str]) -> list[str]:
    """Return texts of values: numbers first, ascending and in the usual notation, then all others."""
    numbers, others = [], []
    for value in values:
        try:
            numbers.append(float(value))
        except ValueError:
            others.append(value)
    return [*map(text_of, sorted(numbers)), *sorted(others)]


def _training(found: Cells, details: Mapping[str, Details]) -> tuple[tuple[dict[str, Curve], ...], int | None, str]:
    """Return the training curves of all cells, the number of points after thinning, and why some have no curve."""
    read = [({}, {}) if is_mixed_in(found, cell) else curves_of(cell, details) for cell in found.cells]
    curves: list[dict[str, Curve]] = [each for each, _ in read]
    number = sum(map(len, curves))
    points = max(FEWEST_POINTS, min(MOST_POINTS, CURVE_POINTS // max(1, number)))
    is_thinned = any(len(curve.epochs) > points for each in curves for curve in each.values())
    made = tuple({name: thinned(curve, points) for name, curve in each.items()} for each in curves)
    return made, points if is_thinned else None, _no_curves(curves, [each for _, each in read])


def _no_curves(curves: Sequence[Mapping[str, Curve]], too_short: Sequence[Mapping[str, int]]) -> str:
    """Return a message on why metrics have no curve."""
    drawn = {name for each in curves for name in each}
    groups: dict[str, int] = {}
    for each in too_short:
        for name in each:
            groups[name] = groups.get(name, 0) + 1
    if not drawn and not groups:
        return "No training curves: no metric was measured during training by all replicates of a point."
    found, short = [], [name for name in groups if name not in drawn]
    if short:
        found.append(
            f"No training curves of {_listed(short)}: measured at fewer than {FEWEST_STEPS} steps. Runs with "
            "evaluate_only_at_end measure at the first and the last step alone."
        )
    partly = max((groups[name] for name in groups if name in drawn), default=0)
    if partly:
        found.append(f"Not drawn: {partly} of {len(curves)} points, measured at fewer than {FEWEST_STEPS} steps.")
    return " ".join(found)
