"""A value against the share of weights that is left, one line per method. Imports no torch.

The axis is from achieved counts. Bands are the extremes of the replicates by default, as in Synaptic-Flow's figure 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.compare.comparison import Comparison, Line
from analysis.compare.points import Point, addresses_of
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
from analysis.figures.style import EXPLAINED, log_ticks
from analysis.rows.result_value import HOW_TO_WRITE_A_VALUE, Value
from analysis.rows.run_row import Row
from analysis.rows.selection import chosen
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

    value: str | None = hparam(None)
    """A metric or another result at the end, at the best validation (test_accuracy@best), at a step
    (test_accuracy@10ep), or its highest of all steps (test_accuracy@max). By default the headline metric of the runs'
    task."""
    x: str = hparam("remaining", choices=tuple(AXES))
    """remaining (percent of the weights on a logarithmic axis, fewer to the right), compression (all weights over kept
    ones, logarithmic) or sparsity (percent)."""


def draw(rows: Sequence[Row], options: CurvesOptions) -> DrawnFigure:
    """Return curves. Raises: UsageError if no run that prunes is chosen, or no complete one."""
    value, axis = Value.of_runs(options.value, chosen(rows, options.where)), AXES[options.x]
    found = grouped(rows, options, value, ["density"])
    if not any(point.n for point in found.pruned):
        raise UsageError(f"no chosen run that is complete and prunes has {value}; {HOW_TO_WRITE_A_VALUE}.", "where")
    limits = _limits(found, axis)

    def finish(axes: Axes) -> None:
        if axis.is_log:
            axes.set_xscale("log")
            log_ticks(axes.xaxis, *limits)
        axes.set_xlim(*(reversed(limits) if axis.is_inverted else limits))
        keep_in_range(axes, value)

    fewer = [point for point in found.pruned if point.n and found.missing(point)]
    explained = [({"linestyle": "none", **EXPLAINED.open}, f"fewer than {found.replicates} runs")] if fewer else []
    figure = draw_panels(
        found,
        options,
        lambda axes, line: _draw_line(axes, line, found, options),
        finish,
        (axis.label, value_text(value)),
        explained,
    )
    points = [_drawn(point, line, found, options) for line in found.lines for point in line.points]
    notes = [spread_note(found, options)]
    if fewer:
        notes.append(f"Open markers: fewer than {found.replicates} replicates.")
    return DrawnFigure(figure, tuple(points), (*notes, *found.notes()))


def place_of(point: Point) -> float:
    """Return the achieved density of a point, or the requested one if no run is complete."""
    density = point.density
    return float(point.keys[-1] or 0.0) if density is None else density


def _draw_line(axes: Axes, line: Line, found: Comparison, options: CurvesOptions) -> Any:
    """Draw a line with its band, and return its handle for the legend; None without any value."""
    points = sorted(line.points, key=place_of)
    if not any(point.n for point in points):
        return None
    scale = scale_of(found.value)
    if line.is_dense:
        means = [point for point in points if point.mean is not None]
        ends = [end for point in means for end in point.interval(options.spread) or point.values]
        axes.axhspan(scale * min(ends), scale * max(ends), color=line.look.color, alpha=0.1, linewidth=0)
        mean = math.nan if points[0].mean is None else scale * points[0].mean
        return axes.axhline(mean, label=line.label, zorder=1.5, **line.look.line)

    def draw(members: Sequence[Point], label: str, **style: Any) -> Any:
        x = [AXES[options.x].of(place_of(point)) for point in members]
        return draw_mean(axes, x, members, line.look, label, scaled=lambda value: scale * value, **style)

    whole = draw(points, line.label, spread=options.spread)
    style: Any = {"color": None, "linestyle": "none", "zorder": whole.get_zorder() + 0.1, **line.look.open}
    draw([each for each in points if each.n and found.missing(each)], f"_fewer {line.label}", spread=None, **style)
    return whole


def _limits(found: Comparison, axis: LevelAxis) -> tuple[float, float]:
    """Return the ends of the axis of the levels, ascending."""
    places = [axis.of(place_of(point)) for point in found.pruned]
    places = [place for place in places if math.isfinite(place) and (place > 0 or not axis.is_log)]
    low, high = min(places), max(places)
    if axis.is_log:
        margin = max(1.05, (high / low) ** 0.04)
        return low / margin, high * margin
    margin = max(0.5, 0.04 * (high - low))
    return low - margin, high + margin


def _drawn(point: Point, line: Line, found: Comparison, options: CurvesOptions) -> DrawnPoint:
    return {
        **found.identity(line),
        "is_dense": line.is_dense,
        "density": place_of(point),
        options.x: AXES[options.x].of(place_of(point)),
        **point.summary(options.spread),
        "missing": None if line.is_dense else found.missing(point),
        "left_out": addresses_of([each.row for each in point.left_out]),
    }


CURVES = FigureKind(
    spelling="curves",
    summary="the headline metric, or another result, over the weights that remain: a line a method",
    draw=draw,
    options=CurvesOptions,
)
