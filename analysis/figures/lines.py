"""Figures of the lines of a comparison: their names, panels, means with bands. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.compare.comparison import Comparison, Kind, Line, Parts, names_in
from analysis.compare.looks import Look
from analysis.compare.points import DENSE, SPREADS, Key, Point
from analysis.figures.figure import GroupsOptions, LinesOptions
from analysis.figures.style import key, label_axes, legend, new_figure, styled
from analysis.rows.result_value import Value
from analysis.rows.run import StoredRun, open_run
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen
from foundations.errors import PluginError, UsageError
from foundations.metrics import metric_of, split_name
from foundations.plugins.users_code import article, name_of, place_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASKED = "density"
"""A result of every run with a mask."""
_BAND = 0.18
"""The opacity of bands."""
_SHORT = {"prune_fraction": "sparsity", "model_name": "model", "dataset_name": "data"}


def comparison(
    rows: Sequence[Row],
    options: GroupsOptions,
    value: str | Callable[[StoredRun], float | None],
    by: str | Sequence[str] = (),
) -> Comparison:
    """Return the lines that a figure's options ask for, with the mean and spread of each point.

    rows: the runs under a root, as a figure kind's `draw` gets them.
    value: a metric or another result, such as test_accuracy or test_loss@min; or a function that takes a run and
    returns a number, such as `lambda run: measure("effective_sparsity", run).values["sparsity"]`.
    by: keys of the points of a line, such as "density"; by default a line has one point. A key is a column of `ls`, a
    hyperparameter or a result; `sparsity`, `density` and `compression` are from achieved counts.
    Runs that are incomplete or damaged, need a plug-in that is not loaded, or have no value, are in `left_out`.
    Raises: UsageError if no run is chosen, a key is unknown, or a mean would be over different experiments.
    """
    keys = (by,) if isinstance(by, str) else by
    return grouped(rows, options, Value.parse(value) if isinstance(value, str) else _computed(value), keys)


def _computed(function: Callable[[StoredRun], float | None]) -> Value:
    """Return the value that a function of runs computes. Raises: PluginError where it returns no number."""

    def read(row: Row) -> float | None:
        found: object = function(open_run(row.location, row.run.root))
        if found is None or isinstance(found, int | float):
            return found
        try:
            if not isinstance(found, str):
                return float(found)  # type: ignore[arg-type]  # a number of NumPy or torch
        except (TypeError, ValueError):
            pass
        reason = f"returned {article(found)} for a run; it must return a number, or None."
        raise PluginError(f"{place_of(function)}: {name_of(function)} {reason}")

    return Value("value", read=read)


def grouped(
    rows: Sequence[Row], options: GroupsOptions, value: Value, by: Sequence[str] = (), *, has_dense: bool = True
) -> Comparison:
    """Return the lines of a figure, as `comparison`. has_dense: whether dense networks are shown."""
    names, panel = lines_and_panel(options)
    if not names:
        raise UsageError("name what the lines are, such as strategy.", "lines")
    if panel in names:
        raise UsageError(f"'{panel}' tells the lines apart already.", "panels")
    if not chosen(rows, options.where):
        raise UsageError("no run is chosen." if options.where else "there are no runs.", "where")
    keys = (*((panel,) if panel else ()), *names)
    found = Comparison.of(
        rows,
        (*keys, *(name for name in by if name not in keys)),
        value,
        where=options.where,
        over=names_in(options.over),
        flags={**dict.fromkeys(keys, "panels"), **dict.fromkeys(names, "lines")},
        has_dense=has_dense,
    )
    found.refuse_mixed("lines")
    return with_lines(found, options, by_method=True)


def masked(rows: Sequence[Row], options: GroupsOptions) -> Comparison:
    """Return the lines of a figure of masks, without dense networks.

    Raises: UsageError if no complete run that prunes is chosen, or a mean would be over different experiments.
    """
    if not any(MASKED in row.results for row in chosen(rows, options.where)):
        raise UsageError("no complete run is chosen that has a mask.", "where")
    return grouped(rows, options, Value(MASKED), has_dense=False)


def with_lines(found: Comparison, options: GroupsOptions, *, by_method: bool = False) -> Comparison:
    """Return a comparison with the lines and panels of a figure. by_method: as `Comparison.arranged`."""
    names, panel = lines_and_panel(options)
    panels = [text for point in found.points if panel for text in _texts_of(panel, point.keys[0])]
    return found.arranged(names, options.labels, _parts_of, panel=panel, others=panels, by_method=by_method)


def lines_and_panel(options: GroupsOptions) -> tuple[tuple[str, ...], str | None]:
    """Return the keys that tell lines apart, and the one that tells panels apart."""
    return names_in(options.lines), (options.panels if isinstance(options, LinesOptions) else None) or None


def _parts_of(names: Sequence[str], kinds: Sequence[Kind]) -> list[Parts]:
    """Return the texts of lines: the legend calls one, for example, `snip10, lr 0.1`."""
    is_only_dense = sum(is_dense for is_dense, _ in kinds) == 1
    found = []
    for is_dense, keys in kinds:
        known = {} if is_dense and is_only_dense else dict(zip(names, keys, strict=True))
        parts: Parts = {}
        if is_dense or "strategy" in known:
            strategy = DENSE if is_dense else str(known["strategy"])
            parts["strategy"] = strategy, f"strategy={strategy}"
        found.append(parts | {name: _texts_of(name, value) for name, value in known.items() if name != "strategy"})
    return found


def _texts_of(name: str, value: Key) -> tuple[str, ...]:
    """Return the texts for the value of a key: `lr 0.1`, or a word without its key; then further ones for labels."""
    if isinstance(value, str) and not value.isdigit():
        shown = value
    else:
        number = f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
        shown = f"{_SHORT.get(name, name).replace('_', ' ')} {number}"
    return shown, str(value), f"{name}={value}"


def value_text(value: Value) -> str:
    """Return the label of a value's axis."""
    metric, (part, own) = metric_of(value.name), split_name(value.name)
    text = f"{part}{own if metric is None else metric.label}".replace("_", " ")
    name = text[:1].upper() + text[1:]
    when = {"": "", "best": ", best validation", "max": ", highest", "min": ", lowest"}.get(
        value.at, f", at {value.at}"
    )
    return f"{name}{when}{' (%)' if value.is_fraction else ''}"


def scale_of(value: Value) -> float:
    """Return the factor of an axis: 100 for fractions, which are shown in percent, else 1."""
    return 100.0 if value.is_fraction else 1.0


def draw_panels(
    found: Comparison,
    options: LinesOptions,
    draw_line: Callable[[Axes, Line], Any],
    finish: Callable[[Axes], None],
    axis_labels: tuple[str, str],
    explained: Sequence[tuple[Mapping[str, Any], str]] = (),
    *,
    is_shared: bool = True,
    in_legend: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Figure:
    """Return a figure with the lines of a comparison in panels.

    draw_line: draws a line and returns its handle for the legend, or None. finish: scales the axes of a panel.
    axis_labels: of x and y. explained: the style and the label of entries of the legend that belong to no line.
    is_shared: whether panels share their axes. in_legend: takes the handles by label, in the order in which they were
    drawn, and returns those in the legend, in its order.
    """
    with styled():
        figure, panels = new_figure(options.width, options.height, len(found.panels), is_shared=is_shared)
        drawn: dict[str, Any] = {}
        for panel, axes in zip(found.panels, panels, strict=True):
            for line in found.of_panel(panel):
                artist = draw_line(axes, line)
                if artist is not None:
                    drawn.setdefault(line.label, artist)
        for panel, axes in zip(found.panels, panels, strict=True):
            finish(axes)
            if found.panel:
                texts = _texts_of(found.panel, panel)
                given = found.labels.given
                axes.set_title(next((given[text] for text in texts if text in given), texts[0]))
        label_axes(figure, panels, *axis_labels)
        entries = [(artist, label) for label, artist in in_legend(drawn).items()]
        entries += [(key(**style), label) for style, label in explained]
        legend(figure, entries, options.title)
    return figure


def draw_mean(
    axes: Axes,
    x: Sequence[Any],
    points: Sequence[Point],
    look: Look,
    label: str,
    *,
    spread: str | None,
    scaled: Callable[[float], float] = float,
    **style: Any,
) -> Any:
    """Draw means as a line, with a band for their spread; return the line. It is interrupted where there is no mean.

    spread: one of SPREADS, or None for no band. scaled: value -> position on the axis. style: Matplotlib's arguments;
    by default those of the look.
    """

    def place(value: float | None) -> float:
        return math.nan if value is None else scaled(value)

    means = [place(point.mean) for point in points]
    if spread is not None:
        pairs = [point.interval(spread) or (point.mean, point.mean) for point in points]
        low, high = ([place(pair[end]) for pair in pairs] for end in (0, 1))
        axes.fill_between(x, low, high, color=look.color, alpha=_BAND, linewidth=0)
    (artist,) = axes.plot(x, means, label=label, **{**look.filled, **look.line, **style})
    return artist


def keep_in_range(axes: Axes, value: Value) -> None:
    """Limit an axis of fractions to about 0% and 100%, even if a computed band exceeds them."""
    if value.is_fraction:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2), min(high, 102))


def spread_note(found: Comparison, options: LinesOptions) -> str:
    """Return the meaning of lines and bands, for the caption."""
    if found.replicates < 2:
        return "Each point is a single run."
    band = f"bands: {SPREADS[options.spread]}"
    return f"Lines: mean of {found.replicates} replicates; {band}."
