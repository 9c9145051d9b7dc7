"""The content of a report as plain data, collected from runs and drawn by the template. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from analysis.compare.comparison import Comparison, Line
from analysis.compare.looks import Look, looks
from analysis.compare.points import DENSE, Key, Point, differences, text_of
from analysis.report.details import FEWEST_STEPS, Curve, Details, Layers, curves_of, details_of, layers_of, thinned
from analysis.report.lines import LEVEL_HYPERPARAMETERS, parts_of, telling_keys
from analysis.report.provenance import Provenance, RunLine, provenance_of
from analysis.report.warnings import Warned, warnings_of
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen

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

    comparison: Comparison
    """Its lines, dense ones first. The key of a point is its level."""
    spread: str
    where: str
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
    def value(self) -> Value:
        """The value that is compared."""
        return self.comparison.value

    @property
    def levels(self) -> tuple[float, ...]:
        """The levels of the pruned lines, descending."""
        return tuple(sorted({level_of(point) for point in self.comparison.pruned}, reverse=True))

    def keys_of(self, line: Line) -> dict[str, str]:
        """Return the values that tell a line apart, as text by name."""
        return {name: text_of(key) for name, key in self.comparison.identity(line).items()}

    @property
    def measured(self) -> str:
        """The value's name in words."""
        return str(self.value).replace("_", " ").replace("@", " at ")

    @property
    def title(self) -> str:
        """A short title of the comparison: at most two lines on a phone."""
        lines = [line for line in self.comparison.lines if not line.is_dense] or list(self.comparison.lines)
        named = _listed([line.label for line in lines])
        keys = [self.keys_of(line) for line in lines]
        found = {key: list(dict.fromkeys(each[key] for each in keys)) for key in self.comparison.names}
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
    spread: one of `analysis.compare.points.SPREADS`.
    labels: names of lines, in the format of `analysis.compare.labels.labels_for`.
    Raises: UsageError if a key, a label's line or the value is unknown, or no run is chosen.
    """
    readable = [row for row in chosen(rows, where) if row.is_readable]
    keys = telling_keys(readable, over) if by is None else tuple(dict.fromkeys(by))
    flags = dict.fromkeys(by or (), "lines")
    found = Comparison.of(rows, [*keys, LEVEL], value, where=where, over=over, flags=flags)
    found = found.arranged(keys, labels, parts_of, looks_of=_looks)
    runs = _runs_of(found)
    details = {row.location: details_of(row) for row in runs}
    training, curve_points, no_curves = _training(found, details)
    varying, common = _hyperparameters(found, keys, over)
    names = [(line.label, percent(point.keys[-1])) for line in found.lines for point in line.points]
    run_lines, provenance = provenance_of(found, runs, details)
    return Page(
        comparison=found,
        spread=spread,
        where=where or "",
        varying=varying,
        common=common,
        training=training,
        no_curves=no_curves,
        curve_points=curve_points,
        layers=tuple(None if point.differing else layers_of(point, details) for point in found.points),
        runs=run_lines,
        provenance=provenance,
        warnings=warnings_of(found, names, details, provenance),
    )


def level_of(point: Point) -> float:
    """Return the density, from 0 to 1, that groups the runs of a point."""
    return float(point.keys[-1] or 0)


def _looks(strategies: Sequence[str | None]) -> list[Look]:
    """Return the look of each line. If all pruned lines have the same strategy, colours stand for lines."""
    pruned = [strategy for strategy in strategies if strategy != DENSE]
    is_telling = len(set(pruned)) > 1 or len(pruned) == 1
    return looks([strategy if is_telling or strategy == DENSE else None for strategy in strategies])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def percent(level: Key) -> str:
    """Return a density as a percentage with three significant digits."""
    return f"{float(level or 0) * 100:.3g}%"


def _runs_of(found: Comparison) -> list[Row]:
    """Return all runs of the points and the excluded ones, each once."""
    rows = [row for point in found.points for row in point.members]
    rows += [*(each.row for each in found.left_out), *found.untrained]
    return list({row.location: row for row in rows}.values())


def _hyperparameters(
    found: Comparison, keys: Sequence[str], over: Collection[str]
) -> tuple[tuple[Varying, ...], dict[str, str]]:
    """Return the hyperparameters in which the compared runs differ, and those that they share."""
    rows = [row for point in found.pruned or found.points for row in point.members]
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


def _training(
    found: Comparison, details: Mapping[str, Details]
) -> tuple[tuple[dict[str, Curve], ...], int | None, str]:
    """Return the training curves of all points, the number of points after thinning, and why some have no curve."""
    read = [({}, {}) if point.differing else curves_of(point, details) for point in found.points]
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
