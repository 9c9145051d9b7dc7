"""A value against the share of weights that is left, one line per method. Imports no torch.

The axis is from achieved counts. Bands are the extremes of the replicates by default, as in Synaptic-Flow's figure 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.compare.cells import Cell, addresses_of
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
from analysis.figures.style import EXPLAINED, key, label_axes, legend, log_ticks, new_figure, styled
from analysis.rows.result_value import HOW_TO_WRITE_A_VALUE, Value
from analysis.rows.run_row import Row
from foundations.description.hparams import hparam
from foundations.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class LevelAxis:
    """An axis for the share of weights that is left."""

    label: str
    of: Callable[[float], float]
    """Density, from 0 to 1 -> position on the axis."""
    is_log: bool = True
    is_inverted: bool = False


AXES = {
    "remaining": LevelAxis("Weights remaining (%)", lambda density: 100 * density, is_inverted=True),
    "compression": LevelAxis("Compression ratio", lambda density: 1 / density if density else math.inf),
    "sparsity": LevelAxis("Sparsity (%)", lambda density: 100 * (1 - density), is_log=False),
}


@dataclass(frozen=True, kw_only=True)
class CurvesOptions(LinesOptions):
    """Runs and levels to draw, and the size of the figure."""

    value: str = hparam("test_accuracy")
    """A metric or another result at the end, at the best validation (test_accuracy@best), at a step
    (test_accuracy@10ep), or its highest of all steps (test_accuracy@max)."""
    x: str = hparam("remaining", choices=tuple(AXES))
    """remaining (percent of the weights on a logarithmic axis, fewer to the right), compression (all weights over kept
    ones, logarithmic) or sparsity (percent)."""


def draw(rows: Sequence[Row], options: CurvesOptions) -> DrawnFigure:
    """Return curves. Raises: UsageError if no run that prunes is chosen, or no complete one."""
    value, axis = Value.parse(options.value), AXES[options.x]
    found = grouped(rows, options, value, ["density"])
    if not any(cell.n for cell in found.pruned):
        raise UsageError(f"no chosen run that is complete and prunes has {value}; {HOW_TO_WRITE_A_VALUE}.", "where")
    lines = lines_of(found, options)
    with styled():
        figure, panels = new_figure(options.width, options.height, len(lines.panels))
        drawn: dict[str, Any] = {}
        for panel, axes in zip(lines.panels, panels, strict=True):
            for line in lines.of_panel(panel):
                artist = _draw_line(axes, line, lines, options, value)
                if artist is not None:
                    drawn.setdefault(line.label, artist)
        _finish(panels, lines, axis)
        keep_in_range(panels, value)
        title_panels(lines, panels)
        label_axes(figure, panels, axis.label, value_text(value))
        entries = [(artist, label) for label, artist in drawn.items()]
        fewer = any(cell.n and lines.missing(cell) for line in lines.lines if not line.is_dense for cell in line.cells)
        if fewer:
            entries.append((key("none", **EXPLAINED.open), f"fewer than {lines.replicates} runs"))
        legend(figure, entries, options.title)
    points = [_point(cell, line, lines, options) for line in lines.lines for cell in line.cells]
    notes = [spread_note(lines, options)]
    if fewer:
        notes.append(f"Open markers: fewer than {lines.replicates} replicates.")
    return DrawnFigure(figure, tuple(points), (*notes, *found.notes()))


def place_of(cell: Cell) -> float:
    """Return the achieved density of a cell, or the requested one if no run is complete."""
    density = cell.density
    return float(cell.keys[-1] or 0.0) if density is None else density


def _draw_line(axes: Axes, line: Line, lines: Lines, options: CurvesOptions, value: Value) -> Any:
    """Draw a line with its band, and return its handle for the legend; None without any value."""
    members = sorted(line.cells, key=place_of)
    if not any(cell.n for cell in members):
        return None
    scale, of = scale_of(value), AXES[options.x].of
    nothing = math.nan  # where no run is complete, the line is interrupted
    means = [nothing if cell.mean is None else scale * cell.mean for cell in members]
    spreads = [cell.interval(options.spread) or (cell.mean, cell.mean) for cell in members]
    low, high = ([nothing if pair[end] is None else scale * pair[end] for pair in spreads] for end in (0, 1))  # type: ignore[operator]
    if line.is_dense:
        axes.axhspan(min(low), max(high), color=line.look.color, alpha=0.1, linewidth=0)
        return axes.axhline(means[0], label=line.label, zorder=1.5, **line.look.line)
    x = [of(place_of(cell)) for cell in members]
    draw_band(axes, x, low, high, line.look)
    (whole,) = axes.plot(x, means, label=line.label, **line.look.filled, **line.look.line)
    fewer = [place for place, cell in enumerate(members) if cell.n and lines.missing(cell)]
    axes.plot(
        [x[place] for place in fewer],
        [means[place] for place in fewer],
        linestyle="none",
        **line.look.open,
        label=f"_fewer {line.label}",
        zorder=whole.get_zorder() + 0.1,
    )
    return whole


def _finish(panels: Sequence[Axes], lines: Lines, axis: LevelAxis) -> None:
    """Scale the axis of the levels."""
    found = [axis.of(place_of(cell)) for line in lines.lines if not line.is_dense for cell in line.cells]
    places = [place for place in found if math.isfinite(place) and (place > 0 or not axis.is_log)]
    low, high = min(places), max(places)
    for axes in panels:
        if axis.is_log:
            axes.set_xscale("log")
            margin = max(1.05, (high / low) ** 0.04)
            low_end, high_end = low / margin, high * margin
            log_ticks(axes.xaxis, low_end, high_end)
        else:
            margin = max(0.5, 0.04 * (high - low))
            low_end, high_end = low - margin, high + margin
        axes.set_xlim(*((high_end, low_end) if axis.is_inverted else (low_end, high_end)))


def _point(cell: Cell, line: Line, lines: Lines, options: CurvesOptions) -> Point:
    return {
        **lines.identity(line),
        "is_dense": line.is_dense,
        "density": place_of(cell),
        options.x: AXES[options.x].of(place_of(cell)),
        **cell.summary(options.spread),
        "missing": None if line.is_dense else lines.missing(cell),
        "left_out": addresses_of([each.row for each in cell.left_out]),
    }


CURVES = FigureKind(
    spelling="curves",
    summary="accuracy, or another result, over the weights that remain: a line a method",
    draw=draw,
    options=CurvesOptions,
)
