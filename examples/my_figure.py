"""`trade_off`: a result over what a measure finds of the same runs, a kind of figure as a plug-in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_prune import DrawnFigure, FigureKind, GroupsOptions, Row, StoredRun, comparison, hparam, measure


@dataclass(frozen=True, kw_only=True)
class TradeOffOptions(GroupsOptions):
    """Runs to draw, and the result on the vertical axis."""

    value: str = hparam("test_accuracy")
    """A metric or another result, such as test_accuracy or test_loss@min."""


def effective_density(run: StoredRun) -> float:
    """Return the share of a run's weights that can change its output."""
    return measure("effective_sparsity", run).values["effective_density"]


def draw(rows: Sequence[Row], options: TradeOffOptions) -> DrawnFigure:
    """Return a line for each group of runs, a point for each level: means over replicates."""
    from matplotlib.figure import Figure

    results = comparison(rows, options, options.value, by=("density",))
    measured = comparison(rows, options, effective_density, by=("density",))
    places = {(line.keys, point.keys): point.mean for line in measured.lines for point in line.points}
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    drawn = []
    for line in results.lines:
        found = [(places.get((line.keys, point.keys)), point.mean, point) for point in line.points]
        shown = [(x, y, point) for x, y, point in found if x is not None and y is not None]
        axes.plot(
            [x for x, _, _ in shown], [y for _, y, _ in shown], label=line.label, **line.look.filled, **line.look.line
        )
        for x, _, point in shown:
            drawn.append({**results.identity(line), "effective_density": x, **point.summary("std")})
    axes.set(xscale="log", xlabel="Effective density", ylabel=options.value, title=options.title)
    axes.legend()
    return DrawnFigure(figure, tuple(drawn), tuple(dict.fromkeys([*results.notes(), *measured.notes()])))


TRADE_OFF = FigureKind(
    spelling="trade_off", summary="a result over the effective density", draw=draw, options=TradeOffOptions
)
