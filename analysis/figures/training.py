"""A metric over the steps of training, one line per group of runs. Imports no torch.

Means are over complete replicates. An incomplete run has a dotted line of its own, up to its last step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.compare.comparison import Comparison, Line
from analysis.compare.points import LeftOut, Point, addresses_of, points_along
from analysis.figures.figure import DrawnFigure, DrawnPoint, FigureKind, LinesOptions
from analysis.figures.lines import (
    draw_mean,
    draw_panels,
    grouped,
    keep_in_range,
    scale_of,
    spread_note,
    value_text,
)
from analysis.rows.result_value import DAMAGED, Value
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen
from foundations.description.hparams import hparam
from foundations.errors import OpenPruneError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_END: Any = {"marker": "x", "markersize": 3.5, "markeredgewidth": 1}
"""The marker at the last step of an incomplete run."""
UNFINISHED = ("incomplete", "running")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(LinesOptions):
    """Runs to draw, and the size of the figure."""

    value: str | None = hparam(None)
    """A metric, such as test_accuracy, test_loss, train_loss. By default the headline metric of the runs' task."""


Trace = tuple[Row, dict[float, float]]
"""A run, and its values of a metric by epoch, ascending."""


@dataclass(frozen=True)
class Traces:
    """The traces of a line."""

    by_epoch: dict[float, Point]
    """The complete runs at the epochs at which all of them were measured."""
    unfinished: tuple[Trace, ...]


def draw(rows: Sequence[Row], options: TrainingOptions) -> DrawnFigure:
    """Return the curves of training. Raises: UsageError if no chosen run measured the metric."""
    from matplotlib.ticker import MaxNLocator

    value = Value.of_runs(options.value, chosen(rows, options.where))
    if value.at:
        raise UsageError("name the metric alone: all its steps are shown.", "value")
    found = grouped(rows, options, value)
    damaged: list[LeftOut] = []
    traces = {id(line): _traces(line, value, damaged) for line in found.lines}
    if not any(each.by_epoch or each.unfinished for each in traces.values()):
        raise UsageError(f"no run that is chosen measured {value}.", "value")
    is_any_unfinished = any(each.unfinished for each in traces.values())

    def finish(axes: Axes) -> None:
        keep_in_range(axes, value)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))

    figure = draw_panels(
        found,
        options,
        lambda axes, line: _draw_traces(axes, line, traces[id(line)], options, scale_of(value)),
        finish,
        ("Epoch", value_text(value)),
        [({"linestyle": ":", "linewidth": 1, **_END}, "not complete")] if is_any_unfinished else [],
    )
    points = [point for line in found.lines for point in _points(found, line, traces[id(line)], options)]
    notes = [spread_note(found, options)]
    if is_any_unfinished:
        notes.append("Dotted: runs that are not complete, each for itself; they are in no mean.")
    notes += [f"Left out, {each.why}: {each.row.address}." for each in damaged]
    return DrawnFigure(figure, tuple(points), (*notes, *found.notes()))


def _traces(line: Line, value: Value, damaged: list[LeftOut]) -> Traces:
    whole: list[Trace] = []
    unfinished: list[Trace] = []
    for point in line.points:
        rows = [(row, whole) for row in point.rows]
        rows += [(each.row, unfinished) for each in point.left_out if each.why in UNFINISHED]
        for row, group in rows:
            try:
                metrics = row.run.metrics()
            except OpenPruneError:
                damaged.append(LeftOut(row, DAMAGED))
                continue
            measured = {
                iteration / row.iterations_per_epoch: number
                for (name, iteration), number in sorted(metrics.values.items(), key=lambda item: item[0][1])
                if name == value.name and math.isfinite(number)
            }
            if measured:
                group.append((row, measured))
    return Traces(points_along(whole), tuple(unfinished))


def _draw_traces(axes: Axes, line: Line, traces: Traces, options: TrainingOptions, scale: float) -> Any:
    """Draw a line with its band, and unfinished runs; return the line's handle for the legend."""
    artist = None
    for row, measured in traces.unfinished:
        x, y = list(measured), [scale * number for number in measured.values()]
        style: Any = {"color": line.look.color, "linestyle": ":", "linewidth": 1}
        (artist,) = axes.plot(x, y, label=f"_unfinished {row.address}", **style)
        axes.plot(x[-1:], y[-1:], color=line.look.color, label="_end", **_END)
    if not traces.by_epoch:
        return artist
    return draw_mean(
        axes,
        list(traces.by_epoch),
        list(traces.by_epoch.values()),
        line.look,
        line.label,
        spread=options.spread,
        scaled=lambda value: scale * value,
        markevery=max(1, len(traces.by_epoch) // 8),
    )


def _points(found: Comparison, line: Line, traces: Traces, options: TrainingOptions) -> list[DrawnPoint]:
    identity = {**found.identity(line), "is_dense": line.is_dense}
    drawn: list[DrawnPoint] = [
        {**identity, "is_complete": True, "epoch": epoch, **point.summary(options.spread)}
        for epoch, point in traces.by_epoch.items()
    ]
    for row, measured in traces.unfinished:
        for epoch, number in measured.items():
            values: DrawnPoint = {"epoch": epoch, "mean": number, "low": None, "high": None, "n": 1}
            values |= {"values": repr(number), "addresses": addresses_of([row])}
            drawn.append({**identity, "is_complete": False, **values})
    return drawn


TRAINING = FigureKind(
    spelling="training",
    summary="a metric over the steps of training: a line for each group of runs",
    draw=draw,
    options=TrainingOptions,
)
