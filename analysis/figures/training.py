"""A metric over the steps of training, one line per group of runs. Imports no torch.

Means are over complete replicates. An incomplete run has a dotted line of its own, up to its last step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.compare.cells import Cell, LeftOut, addresses_of
from analysis.figures.figure import DrawnFigure, FigureKind, LinesOptions, Point
from analysis.figures.lines import (
    Line,
    Lines,
    draw_band,
    grouped,
    keep_in_range,
    lines_of,
    scale_of,
    spread_note,
    title_panels,
    value_text,
)
from analysis.figures.style import key, label_axes, legend, new_figure, styled
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from foundations.description.hparams import hparam
from foundations.errors import DamagedError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_END: Any = {"marker": "x", "markersize": 3.5, "markeredgewidth": 1}
"""The marker at the last step of an incomplete run."""
UNFINISHED = ("incomplete", "running")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(LinesOptions):
    """Runs to draw, and the size of the figure."""

    value: str = hparam("test_accuracy")
    """A metric, such as test_accuracy, test_loss, train_loss."""


@dataclass(frozen=True)
class Trace:
    """A run's values of a metric: (epoch, value), ascending."""

    row: Row
    measured: dict[float, float]


@dataclass(frozen=True)
class Traces:
    """The traces of a line."""

    line: Line
    whole: tuple[Trace, ...]
    unfinished: tuple[Trace, ...]

    @property
    def epochs(self) -> list[float]:
        """The epochs at which all complete runs were measured."""
        common = set.intersection(*(set(trace.measured) for trace in self.whole)) if self.whole else set()
        return sorted(common)

    def at(self, epoch: float) -> Cell:
        """Return the values of the complete runs at an epoch."""
        values = tuple(trace.measured[epoch] for trace in self.whole)
        return Cell(self.line.keys, self.line.is_dense, tuple(trace.row for trace in self.whole), values)


def draw(rows: Sequence[Row], options: TrainingOptions) -> DrawnFigure:
    """Return the curves of training. Raises: UsageError if no chosen run measured the metric."""
    from matplotlib.ticker import MaxNLocator

    value = Value.parse(options.value)
    if value.at:
        raise UsageError("name the metric alone: all its steps are shown.", "value")
    found = grouped(rows, options, value)
    lines = lines_of(found, options)
    damaged: list[LeftOut] = []
    traces = [_traces(line, value, damaged) for line in lines.lines]
    if not any(each.whole or each.unfinished for each in traces):
        raise UsageError(f"no run that is chosen measured {value}.", "value")
    with styled():
        figure, panels = new_figure(options.width, options.height, len(lines.panels))
        drawn: dict[str, Any] = {}
        for panel, axes in zip(lines.panels, panels, strict=True):
            for each in traces:
                if each.line in lines.of_panel(panel) and (artist := _draw_traces(axes, each, options, value)):
                    drawn.setdefault(each.line.label, artist)
        keep_in_range(panels, value)
        title_panels(lines, panels)
        for axes in panels:
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        label_axes(figure, panels, "Epoch", value_text(value))
        entries = [(artist, label) for label, artist in drawn.items()]
        if is_any_unfinished := any(each.unfinished for each in traces):
            entries.append((key(":", linewidth=1, **_END), "not complete"))
        legend(figure, entries, options.title)
    points = [point for each in traces for point in _points(each, lines, options)]
    notes = [spread_note(lines, options)]
    if is_any_unfinished:
        notes.append("Dotted: runs that are not complete, each for itself; they are in no mean.")
    notes += [f"Left out, damaged, see `verify`: {each.row.address}." for each in damaged]
    return DrawnFigure(figure, tuple(points), (*notes, *found.notes()))


def _traces(line: Line, value: Value, damaged: list[LeftOut]) -> Traces:
    whole: list[Trace] = []
    unfinished: list[Trace] = []
    for cell in line.cells:
        rows = [(row, whole) for row in cell.rows]
        rows += [(each.row, unfinished) for each in cell.left_out if each.why in UNFINISHED]
        for row, group in rows:
            try:
                metrics = row.run.metrics()
            except DamagedError:
                damaged.append(LeftOut(row, "damaged"))
                continue
            measured = {
                iteration / row.iterations_per_epoch: number
                for (name, iteration), number in sorted(metrics.values.items(), key=lambda item: item[0][1])
                if name == value.name and math.isfinite(number)
            }
            if measured:
                group.append(Trace(row, measured))
    return Traces(line, tuple(whole), tuple(unfinished))


def _draw_traces(axes: Axes, traces: Traces, options: TrainingOptions, value: Value) -> Any:
    """Draw a line with its band, and unfinished runs; return the line's handle for the legend."""
    scale, look = scale_of(value), traces.line.look
    artist = None
    for trace in traces.unfinished:
        x, y = list(trace.measured), [scale * number for number in trace.measured.values()]
        (artist,) = axes.plot(
            x, y, color=look.color, linestyle=":", linewidth=1, label=f"_unfinished {trace.row.address}"
        )
        axes.plot(x[-1:], y[-1:], color=look.color, label="_end", **_END)
    epochs = traces.epochs
    if epochs:
        cells = [traces.at(epoch) for epoch in epochs]
        means = [scale * statistics.fmean(cell.values) for cell in cells]
        pairs = [cell.interval(options.spread) or (cell.values[0], cell.values[0]) for cell in cells]
        draw_band(axes, epochs, [scale * low for low, _ in pairs], [scale * high for _, high in pairs], look)
        every = max(1, len(epochs) // 8)
        (artist,) = axes.plot(
            epochs,
            means,
            label=traces.line.label,
            **look.filled,
            markevery=every,
            **look.line,
        )
    return artist


def _points(traces: Traces, lines: Lines, options: TrainingOptions) -> list[Point]:
    identity = {**lines.identity(traces.line), "is_dense": traces.line.is_dense}
    found: list[Point] = []
    for epoch in traces.epochs:
        summary = traces.at(epoch).summary(options.spread)
        found.append({**identity, "is_complete": True, "epoch": epoch, **summary})
    for trace in traces.unfinished:
        for epoch, number in trace.measured.items():
            values: Point = {"epoch": epoch, "mean": number, "low": None, "high": None, "n": 1, "values": repr(number)}
            found.append({**identity, "is_complete": False, **values, "addresses": addresses_of([trace.row])})
    return found


TRAINING = FigureKind(
    spelling="training",
    summary="a metric over the steps of training: a line for each group of runs",
    draw=draw,
    options=TrainingOptions,
)
