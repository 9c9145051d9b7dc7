"""Results of measures, as dots or lines. Imports no torch if all results are kept already."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from analysis.compare.cells import DENSE, LEVELS, Cell, Key, addresses_of, differences, names_in
from analysis.compare.labels import Labels, labels_for
from analysis.figures.figure import DrawnFigure, FigureKind, LinesOptions, Point
from analysis.figures.lines import draw_band, key_text, known_group, panel_title
from analysis.figures.style import Look, label_axes, legend, log_ticks, looks, new_figure, place_of, styled
from analysis.measures.measure import Measure
from analysis.measures.registry import MEASURES
from analysis.measures.results import result_of
from analysis.rows.run import StoredRun
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen
from foundations.description.hparams import Hparams, fields_of, hparam
from foundations.environment import Environment
from foundations.errors import DamagedError, UsageError, choose_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = ("remaining", *LEVELS)
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
class Found:
    """A number to draw: of a run, or of a row of a measured table."""

    row: Row
    keys: Mapping[str, Key]
    """The keys that tell lines and panels apart."""
    x: float | str
    y: float


@dataclass
class Series:
    """The points of one colour in one panel."""

    label: str
    panel: Key
    look: Look
    found: list[Found] = field(default_factory=list)


def draw(rows: Sequence[Row], options: MeasureOptions) -> DrawnFigure:
    """Return a figure of a measure's results for runs.

    Raises: UsageError if no complete run is chosen, a name is unknown, or a mean would be over different experiments.
    """
    if options.measure is None:
        raise UsageError("name the measure that is drawn; `measures` lists them.", "measure")
    measure, notes = MEASURES.find(options.measure), list[str]()
    if measure.takes != "one run":
        raise UsageError(f"{measure.spelling} is of {measure.takes}; figures are of measures of one run.", "measure")
    found: list[Found] = []
    y = ""
    for row in _measurable(rows, options, notes):
        for given in given_options(measure, options.options):
            try:
                y = _add(found, row, measure, given, options)
            except DamagedError:
                notes.append(f"Left out, damaged, see `verify`: {row.address}.")
    if not found:
        raise UsageError("all runs that are chosen are damaged; see `verify`.", "where")
    labels, series = _series(found, options)
    with styled():
        panels = sorted({each.panel for each in series}, key=_order)
        figure, axes = new_figure(options.width, options.height, len(panels), is_shared=not options.free_axes)
        drawn: dict[str, Any] = {}
        for each in series:
            drawn.setdefault(each.label, _draw_series(axes[panels.index(each.panel)], each, options))
        for panel, ax in zip(panels, axes, strict=True):
            _finish(ax, options)
            if options.panels:
                ax.set_title(panel_title(labels, options.panels, panel))
        label_axes(figure, axes, _words(options.x), _words(y))
        entries = [(artist, label) for label, artist in drawn.items()]
        legend(figure, entries if len(entries) > 1 else [], options.title)
    notes += _hidden(found, options)
    return DrawnFigure(figure, tuple(_points(series, options, y)), tuple(notes))


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


def _measurable(rows: Sequence[Row], options: MeasureOptions, notes: list[str]) -> list[Row]:
    """Return the complete ones of the chosen runs; add the others to the notes."""
    selected = chosen(rows, options.where)
    complete = [row for row in selected if row.status == "complete"]
    if not complete:
        raise UsageError("no complete run is chosen.", "where")
    for status in dict.fromkeys(row.status for row in selected if row.status != "complete"):
        addresses = [row.address for row in selected if row.status == status]
        more = f" and {len(addresses) - 6} more" if len(addresses) > 6 else ""
        notes.append(f"Left out, {status}: {', '.join(addresses[:6])}{more}.")
    return complete


def _add(found: list[Found], row: Row, measure: Measure, given: Given, options: MeasureOptions) -> str:
    """Measure a run, add its points, and return the name of the drawn value."""
    result = result_of(measure, [StoredRun(row.run.location, Environment.read(row.run.root))], given.options)
    y = options.y or next(iter(result.values), next(iter(result.table), ""))
    if y not in result.values and y not in result.table:
        raise UsageError(f"{measure.spelling} has no '{y}'{choose_from(y, (*result.table, *result.values))}", "y")
    names = (*names_in(options.panels), *names_in(options.lines))
    is_by_row = bool({y, options.x} & set(result.table))
    number = len(next(iter(result.table.values()))) if is_by_row else 1
    for place in range(number):
        known: dict[str, Any] = {**result.values, **given.values}
        known |= {name: column[place] for name, column in result.table.items()} if is_by_row else {}
        keys = {name: known[name] if name in known else _of_row(row, name) for name in names}
        x = known[options.x] if options.x in known else _of_row(row, options.x)
        if x is None:
            raise UsageError(f"neither {measure.spelling} nor {row.address} has '{options.x}'.", "x")
        found.append(Found(row, keys, x if isinstance(x, str) else float(x), float(known[y])))
    return y


def _of_row(row: Row, name: str) -> Any:
    """Return a run's value of a name; levels are from achieved counts."""
    if name in _LEVELS:
        density = 1 - (row.sparsity or 0.0)
        return {
            "remaining": 100 * density,
            "density": density,
            "sparsity": 1 - density,
            "compression": 1 / density if density else math.inf,
        }[name]
    return DENSE if name == "strategy" and not row.branch else row.value(name)


def _series(found: Sequence[Found], options: MeasureOptions) -> tuple[Labels, list[Series]]:
    """Return the labels, and the points by colour and panel."""
    names = names_in(options.lines)
    kinds = list(dict.fromkeys(tuple(each.keys[name] for name in names) for each in found))
    strategies = [dict(zip(names, kind, strict=True)).get("strategy") for kind in kinds]
    drawn_as = looks([None if strategy is None else str(strategy) for strategy in strategies])
    rows_of: dict[tuple[Key, ...], dict[int, Row]] = {kind: {} for kind in kinds}
    for each in found:
        rows_of[tuple(each.keys[name] for name in names)][id(each.row)] = each.row
    known = [known_group(names, kind, [Cell(kind, False, tuple(rows_of[kind].values()))]) for kind in kinds]
    panels = {each.keys[options.panels] for each in found} if options.panels else set()
    labels = labels_for(
        options.labels, known, [text for key in panels for text in (key_text(str(options.panels), key), str(key))]
    )
    by_place: dict[tuple[int, Key], Series] = {}
    for each in found:
        kind = tuple(each.keys[name] for name in names)
        place, panel = kinds.index(kind), each.keys[options.panels] if options.panels else None
        if (place, panel) not in by_place:
            look = replace(drawn_as[place], marker="o") if drawn_as[place].marker == "None" else drawn_as[place]
            by_place[place, panel] = Series(labels.of_line(known[place]), panel, look)
        by_place[place, panel].found.append(each)
    in_order = sorted(by_place, key=lambda key: (place_of(str(strategies[key[0]])), key[0]))
    return labels, [by_place[key] for key in in_order]


def _order(panel: Key) -> tuple[int, bool, float, str]:
    """Return the sort key of a panel: strategies in the order of the registry, then numbers, then words."""
    number = float(panel) if isinstance(panel, int | float) else math.inf
    return place_of(str(panel)), isinstance(panel, str), number, str(panel)


def _draw_series(axes: Axes, series: Series, options: MeasureOptions) -> Any:
    """Draw dots or a line; return the handle for the legend."""
    look = series.look
    if options.kind == "scatter":
        shown = [each for each in series.found if _is_shown(each, options)]
        size = 3.0 if len(shown) <= _MOST_LARGE_DOTS else 1.6
        dots: Any = {**_DOT, "color": look.color, "marker": look.shape, "markersize": size}
        (artist,) = axes.plot([each.x for each in shown], [each.y for each in shown], label=series.label, **dots)
        return artist
    cells = _averaged(series, options)
    x, means = list(cells), [statistics.fmean(cell.values) for cell in cells.values()]
    pairs = [cell.interval(options.spread) or (cell.values[0], cell.values[0]) for cell in cells.values()]
    numbers = [place for place in x if not isinstance(place, str)]
    if len(numbers) == len(x):
        draw_band(axes, numbers, [low for low, _ in pairs], [high for _, high in pairs], look)
    (artist,) = axes.plot(x, means, label=series.label, **look.filled, **look.line)
    return artist


def _averaged(series: Series, options: MeasureOptions) -> dict[float | str, Cell]:
    """Return the values at each place on the axis. Raises: UsageError if they are of different experiments."""
    groups: dict[float | str, list[Found]] = {}
    for each in series.found:
        if _is_shown(each, options):
            groups.setdefault(each.x, []).append(each)
    told_apart = {*names_in(options.lines), *names_in(options.panels), *names_in(options.over), options.x}
    if told_apart & set(_LEVELS):
        told_apart.add("prune_fraction")
    for group in groups.values():
        mixed = {name: v for name, v in differences([each.row for each in group]).items() if name not in told_apart}
        if mixed:
            texts = ", ".join(f"{name} ({', '.join(values[:4])})" for name, values in mixed.items())
            raise UsageError(
                f"the runs of one point differ in {texts}. Tell them apart by --lines, choose one value with --where, "
                f"or average on purpose with --over={','.join(mixed)}.",
                "lines",
            )
    in_order = sorted(groups, key=lambda x: (isinstance(x, str), x if not isinstance(x, str) else 0))
    return {
        x: Cell((), False, tuple(each.row for each in groups[x]), tuple(each.y for each in groups[x])) for x in in_order
    }


def _is_shown(found: Found, options: MeasureOptions) -> bool:
    """Return whether the axes can show a point."""
    logs = names_in(options.log)
    for name, value in (("x", found.x), ("y", found.y)):
        if isinstance(value, str):
            continue
        if not math.isfinite(value) or (name in logs and value <= 0):
            return False
    return True


def _hidden(found: Sequence[Found], options: MeasureOptions) -> list[str]:
    """Return a sentence on points that the axes cannot show."""
    number = sum(not _is_shown(each, options) for each in found)
    why = "not finite, or not positive on a logarithmic axis" if options.log else "not finite"
    return [f"{number} of {len(found)} points are not shown: {why}."] if number else []


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
        axes.axline(*_diagonal(max(left, low), min(right, high)), label="_diagonal", **style)
        axes.set(xlim=(left, right), ylim=(low, high))
    if options.reference is not None:
        axes.axhline(options.reference, label="_reference", **style)


def _diagonal(low: float, high: float) -> tuple[tuple[float, float], tuple[float, float]]:
    low, high = (low, high) if low < high else (high, low)
    return (low, low), (high, high)


def _points(series: Sequence[Series], options: MeasureOptions, y: str) -> list[Point]:
    """Return the drawn points: each dot, or each mean."""
    found: list[Point] = []
    for each in series:
        if options.kind == "scatter":
            found += [
                {**one.keys, options.x: one.x, y: one.y, "address": addresses_of([one.row])} for one in each.found
            ]
            continue
        for x, cell in _averaged(each, options).items():
            found.append({**each.found[0].keys, options.x: x, **cell.summary(options.spread)})
    return found


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
