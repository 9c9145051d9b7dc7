"""Results of measures, as dots or lines. Imports no torch if all results are kept already."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.comparison import Comparison, Line, left_out_notes, names_in, upstream_notes
from analysis.compare.looks import place_of
from analysis.compare.points import (
    DENSE,
    LEVELS,
    Key,
    LeftOut,
    Point,
    addresses_of,
    as_level,
    differences,
    order,
    reason_of,
)
from analysis.figures.figure import DrawnFigure, DrawnPoint, FigureKind, LinesOptions
from analysis.figures.lines import draw_mean, draw_panels, lines_and_panel, with_lines
from analysis.figures.style import log_ticks
from analysis.measures.measure import Measure, Measured
from analysis.measures.registry import MEASURES
from analysis.measures.results import result_of
from analysis.rows.result_value import Value
from analysis.rows.run import open_run
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen
from foundations.description.hparams import Hparams, fields_of, hparam
from foundations.errors import DamagedError, OpenPruneError, UsageError, choose_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DOT = {"linestyle": "none", "markeredgewidth": 0, "alpha": 0.6}
_MOST_LARGE_DOTS = 200
"""With more dots, they are small."""


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(LinesOptions):
    """Measure and runs to draw, the kind of plot, and the size of the figure."""

    measure: str | None = hparam(None, choices=MEASURES)
    """The measure; `measures` lists them. What is not measured yet is measured now, and kept."""
    options: str | None = hparam(None)
    """Options of the measure, name=value, with commas between, or semicolons where values have commas. Of several
    values for one name, each is measured: strategy=magnitude,strategy=synflow."""
    x: str = hparam("remaining")
    """A column of the measure's table, one of its values, or something of the run: remaining (percent of the weights),
    sparsity, density, compression, a hyperparameter or a result."""
    y: str | None = hparam(None)
    """A column of the measure's table, or one of its values; by default the first value."""
    lines: str = hparam("strategy")
    """A colour for each combination of values of these, with commas between: columns of the measure's table, its
    options, columns of `ls`, hyperparameters or results."""
    kind: str = hparam("scatter", choices=("scatter", "line"))
    """scatter (a dot for each) or line (means over runs, with bands)."""
    log: str | None = hparam(None)
    """x, y, or both with a comma between: logarithmic axes."""
    free_axes: bool = hparam(False)
    """Give each panel axes of its own; by default all share theirs."""
    diagonal: bool = hparam(False)
    """Draw the line on which both axes are equal."""
    reference: float | None = hparam(None)
    """Draw a horizontal line there."""

    def validate(self) -> None:
        """Check conditions on several fields."""
        super().validate()
        for name in names_in(self.log):
            if name not in ("x", "y"):
                raise UsageError(f"'{name}' is not an axis{choose_from(name, ('x', 'y'))}", "log")


@dataclass(frozen=True)
class Given:
    """Options of a measure, and those that were set explicitly."""

    values: Mapping[str, Any]
    options: Hparams


@dataclass(frozen=True)
class Dot:
    """A number to draw: of a run, or of a row of a measured table."""

    row: Row
    keys: tuple[Key, ...]
    """The keys that tell lines and panels apart."""
    x: float | str
    y: float


def measure_of(options: MeasureOptions) -> Measure:
    """Return the measure that is drawn. Raises: UsageError if none is named, or it is not of one run."""
    if options.measure is None:
        raise UsageError("name the measure that is drawn; `measures` lists them.", "measure")
    measure = MEASURES.find(options.measure)
    if measure.takes != "one run":
        raise UsageError(f"{measure.spelling} is of {measure.takes}; figures are of measures of one run.", "measure")
    return measure


def draw(rows: Sequence[Row], options: MeasureOptions) -> DrawnFigure:
    """Return a figure of a measure's results for runs.

    Raises: UsageError if no complete run is chosen, a name is unknown, or a mean would be over different experiments.
    """
    measure = measure_of(options)
    y, dots, left_out = _measured(rows, measure, options)
    found = _compared(dots, y, options)
    figure = draw_panels(
        found,
        options,
        lambda axes, line: _draw_line(axes, line, options),
        lambda axes: _finish(axes, options),
        (_words(options.x), _words(y)),
        is_shared=not options.free_axes,
        in_legend=lambda drawn: {line.label: drawn[line.label] for line in found.lines if len(drawn) > 1},
    )
    notes = left_out_notes(left_out)
    if hidden := sum(not _is_shown(dot.x, dot.y, options) for dot in dots):
        why = "not finite, or not positive on a logarithmic axis" if options.log else "not finite"
        notes.append(f"{hidden} of {len(dots)} points are not shown: {why}.")
    notes += upstream_notes(dot.row for dot in dots)
    return DrawnFigure(figure, tuple(_points(found, options)), tuple(notes))


def given_options(measure: Measure, text: str | None) -> list[Given]:
    """Read the options of a measure from a text: every combination of the values of each name.

    Raises: UsageError if the text cannot be read, or has an unknown option.
    """
    values: dict[str, list[str]] = {}
    for part in filter(None, (text or "").split(";" if ";" in (text or "") else ",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"'{part}' is not name=value, such as step=0it.", "options")
        values.setdefault(name.strip(), []).append(value)
    found = []
    for combination in itertools.product(*values.values()):
        given: dict[str, Any] = dict(zip(values, combination, strict=True))
        kind = measure.options.group_for(given)
        for name in given:
            if name not in kind.names():
                raise UsageError(
                    f"'{name}' is not an option of {measure.spelling}{choose_from(name, kind.names())}", "options"
                )
        typed = {each.name: _typed(given[each.name], each.types) for each in fields_of(kind) if each.name in given}
        found.append(Given(typed, kind.of(typed)))
    return found


def _typed(text: str, types: Sequence[type]) -> Any:
    if type(None) in types and text == "None":
        return None
    if bool in types:
        return text.lower() not in ("false", "0", "no")
    for kind in (int, float):
        if kind in types:
            try:
                return kind(text)
            except ValueError as error:
                raise UsageError(f"'{text}' is not a number.", "options") from error
    return text


def _measured(rows: Sequence[Row], measure: Measure, options: MeasureOptions) -> tuple[str, list[Dot], list[LeftOut]]:
    """Measure the complete ones of the chosen runs; return the drawn value's name, and the runs that do not count."""
    selected = chosen(rows, options.where)
    complete = [row for row in selected if row.status == "complete"]
    if not complete:
        raise UsageError("no complete run is chosen.", "where")
    left_out = [LeftOut(row, row.status) for row in selected if row.status != "complete"]
    given = given_options(measure, options.options)
    y, dots, refused = "", list[Dot](), list[OpenPruneError]()
    for row in complete:
        for each in given:
            try:
                result = result_of(measure, [open_run(row.location, row.run.root)], each.options)
            except OpenPruneError as error:  # an unrelated run may be damaged, or need a plug-in that is not loaded
                left_out.append(LeftOut(row, reason_of(row, error)))
                refused.append(error)
                break
            y = options.y or next(iter(result.values), next(iter(result.table), ""))
            dots += _dots(row, measure, result, each, y, options)
    if not dots:
        if all(isinstance(error, DamagedError) for error in refused):
            raise UsageError("all runs that are chosen are damaged; see `verify`.", "where")
        raise next(error for error in refused if not isinstance(error, DamagedError))
    return y, dots, left_out


def _dots(row: Row, measure: Measure, result: Measured, given: Given, y: str, options: MeasureOptions) -> Iterator[Dot]:
    """Yield the dots of a run: one, or one for each row of the measured table."""
    if y not in result.values and y not in result.table:
        raise UsageError(f"{measure.spelling} has no '{y}'{choose_from(y, (*result.table, *result.values))}", "y")
    names, panel = lines_and_panel(options)
    is_by_row = bool({y, options.x} & set(result.table))
    for place in range(len(next(iter(result.table.values()))) if is_by_row else 1):
        known: dict[str, Any] = {**result.values, **given.values}
        known |= {name: column[place] for name, column in result.table.items()} if is_by_row else {}
        keys = [known[name] if name in known else _of_row(row, name) for name in (*((panel,) if panel else ()), *names)]
        x = known[options.x] if options.x in known else _of_row(row, options.x)
        if x is None:
            raise UsageError(f"neither {measure.spelling} nor {row.address} has '{options.x}'.", "x")
        yield Dot(row, tuple(keys), x if isinstance(x, str) else float(x), float(known[y]))


def _of_row(row: Row, name: str) -> Any:
    """Return a run's value of a name; levels are from achieved counts."""
    if name in ("remaining", *LEVELS):
        return as_level(name, 1 - (row.sparsity or 0.0))
    return DENSE if name == "strategy" and not row.branch else row.value(name)


def _compared(dots: Sequence[Dot], y: str, options: MeasureOptions) -> Comparison:
    """Return the lines of some dots; a point is a dot, or the mean of those at one place of the axis.

    Dots that the axes cannot show are in no mean. Raises: UsageError if a mean would be over different experiments.
    """
    is_line = options.kind == "line"
    groups: dict[Any, list[Dot]] = {}
    for number, dot in enumerate(dots):
        groups.setdefault((dot.keys, dot.x) if is_line else number, []).append(dot)
    names, panel = lines_and_panel(options)
    told_apart = {*names, panel, *names_in(options.over), options.x}
    if told_apart & {"remaining", *LEVELS}:
        told_apart |= {"prune_fraction", "effective_density"}
    points = []
    for members in groups.values():
        is_shown = [not is_line or _is_shown(dot.x, dot.y, options) for dot in members]
        shown = list(itertools.compress(members, is_shown))
        hidden = tuple(LeftOut(dot.row, "") for dot, is_in in zip(members, is_shown, strict=True) if not is_in)
        rows = tuple(dot.row for dot in shown)
        mixed = differences(rows) if is_line else {}
        differing = {name: values for name, values in mixed.items() if name not in told_apart}
        keys = (*members[0].keys, members[0].x)
        points.append(Point(keys, False, rows, tuple(dot.y for dot in shown), hidden, differing))
    found = Comparison((), Value(y), tuple(points))
    found.refuse_mixed("lines")
    found = with_lines(found, options)
    lines = found.lines
    if "strategy" in names:
        place = names.index("strategy")
        lines = tuple(sorted(lines, key=lambda line: place_of(str(line.keys[place]))))
    return replace(found, lines=lines, panels=tuple(sorted(found.panels, key=_order)))


def _order(panel: Key) -> tuple[int, bool, float, str]:
    """Return the sort key of a panel: strategies in the order of the registry, then numbers, then words."""
    number = float(panel) if isinstance(panel, int | float) else math.inf
    return place_of(str(panel)), isinstance(panel, str), number, str(panel)


def _draw_line(axes: Axes, line: Line, options: MeasureOptions) -> Any:
    """Draw dots or a line; return the handle for the legend."""
    look = replace(line.look, marker="o") if line.look.marker == "None" else line.look
    if options.kind == "line":
        points = _in_order(line)
        x = [point.keys[-1] for point in points]
        spread = None if any(isinstance(place, str) for place in x) else options.spread
        return draw_mean(axes, x, points, look, line.label, spread=spread)
    shown = [each for each in line.points if _is_shown(each.keys[-1], each.values[0], options)]
    size = 3.0 if len(shown) <= _MOST_LARGE_DOTS else 1.6
    dots: Any = {**_DOT, "color": look.color, "marker": look.shape, "markersize": size}
    places: Any = [each.keys[-1] for each in shown]
    (artist,) = axes.plot(places, [each.values[0] for each in shown], label=line.label, **dots)
    return artist


def _in_order(line: Line) -> list[Point]:
    """Return the points that have a mean, by their place on the axis: numbers ascending, then names as they come."""
    points = [point for point in line.points if point.n]
    return sorted(points, key=lambda point: order(point.keys[-1])[:2])


def _is_shown(x: Key, y: float, options: MeasureOptions) -> bool:
    """Return whether the axes can show a point."""
    logs = names_in(options.log)
    return all(
        isinstance(value, str) or (math.isfinite(value or 0.0) and (name not in logs or (value or 0.0) > 0))
        for name, value in (("x", x), ("y", y))
    )


def _finish(axes: Axes, options: MeasureOptions) -> None:
    """Scale the axes and draw the reference lines."""
    for name in names_in(options.log):
        axes.set(**{f"{name}scale": "log"})
        low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
        log_ticks(axes.xaxis if name == "x" else axes.yaxis, low, high)
    if options.x == "remaining" and not axes.xaxis_inverted():
        axes.invert_xaxis()
    style: Any = {"color": "black", "linewidth": 0.8, "linestyle": (0, (3, 1.5)), "zorder": 1.5}
    if options.diagonal:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        ends = sorted((max(left, low), min(right, high)))
        axes.axline((ends[0], ends[0]), (ends[1], ends[1]), label="_diagonal", **style)
        axes.set(xlim=(left, right), ylim=(low, high))
    if options.reference is not None:
        axes.axhline(options.reference, label="_reference", **style)


def _points(found: Comparison, options: MeasureOptions) -> Iterator[DrawnPoint]:
    """Yield the drawn points: each dot, or each mean."""
    for line in found.lines:
        for point in _in_order(line) if options.kind == "line" else line.points:
            drawn = {**found.identity(line), options.x: point.keys[-1]}
            if options.kind == "line":
                yield {**drawn, **point.summary(options.spread)}
            else:
                yield {**drawn, found.value.name: point.values[0], "address": addresses_of(point.rows)}


def _words(name: str) -> str:
    return {"remaining": "Weights remaining (%)", "in": "Into the unit", "out": "Out of the unit"}.get(
        name, name.replace("_", " ").capitalize()
    )


MEASURE = FigureKind(
    spelling="measure",
    summary="what a measure found of runs: dots, or means as lines",
    draw=draw,
    options=MeasureOptions,
    reads_metrics=False,
)
