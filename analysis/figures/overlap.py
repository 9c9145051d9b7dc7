"""A heat map of the overlap between the masks of groups of runs (formulas: `pruning.masks.overlap`).

Masks of two groups are compared within a replicate, where both start from one dense network. Masks of one group are
compared between replicates: the diagonal shows how similar a method's masks of different networks are.
Imports torch to read masks.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.compare.comparison import Line
from analysis.compare.points import addresses_of
from analysis.figures.figure import DrawnFigure, DrawnPoint, FigureKind, GroupsOptions
from analysis.figures.lines import masked
from analysis.figures.style import inches, legend, new_figure, styled
from analysis.rows.run_row import Row
from foundations.description.hparams import hparam
from foundations.errors import DamagedError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pruning.masks.mask import Mask
    from pruning.masks.overlap import Overlap

_MOST_NUMBERS = 12
"""With more groups, cells show no numbers."""
_DARK = 0.55
"""Colours of smaller values are dark."""


@dataclass(frozen=True, kw_only=True)
class OverlapOptions(GroupsOptions):
    """Masks to compare, and the size of the figure."""

    layer: str | None = hparam(None)
    """Compare one layer's weights, such as fc.weight; by default all."""
    beyond_chance: bool = hparam(False)
    """Show (J - E) / (1 - E) in place of the Jaccard index J, with the index E that masks with as many weights in each
    layer have at random: 0 is chance, 1 is the same mask."""


Pair = tuple[Row, Row, "Overlap"]


def draw(rows: Sequence[Row], options: OverlapOptions) -> DrawnFigure:
    """Return a map of overlaps. Raises: UsageError if no mask is chosen, or masks are of different networks."""
    found = masked(rows, options)
    lines = [line for line in found.lines if any(point.n for point in line.points)]
    notes: list[str] = []
    masks = [_masks(line, notes) for line in lines]
    if not any(masks):
        raise UsageError("no complete run that is chosen has a mask.", "where")
    pairs: dict[tuple[int, int], list[Pair]] = {}
    refused: list[UsageError] = []
    for one, other in itertools.combinations_with_replacement(range(len(lines)), 2):
        try:
            pairs[one, other] = _compared(masks[one], masks[other], options.layer, is_same=one == other)
        except UsageError as error:  # an unrelated run may be of another network
            pairs[one, other] = []
            refused.append(error)
            notes.append(f"Not compared, {lines[one].label} and {lines[other].label}: {error.reason}")
    if refused and not any(pairs.values()):
        raise refused[0]
    table = [[_mean(pairs[min(i, j), max(i, j)], options) for j in range(len(lines))] for i in range(len(lines))]
    with styled():
        height = options.height or inches(options.width) * 0.82
        figure, (axes,) = new_figure(options.width, height)
        legend(figure, [], options.title)
        _draw_map(figure, axes, table, [line.label for line in lines], options)
    points = [_point(lines[one], lines[other], pair) for (one, other), members in pairs.items() for pair in members]
    notes.insert(0, "Off the diagonal: masks of the same replicate. On it: masks of different replicates.")
    return DrawnFigure(figure, tuple(points), (*notes, *found.notes()))


def _masks(line: Line, notes: list[str]) -> list[tuple[Row, Mask]]:
    """Return the masks of a line's runs; add unreadable ones to the notes."""
    from pruning.masks.mask import Mask

    found = []
    for row in (row for point in line.points for row in point.rows):
        try:
            if row.run.has_mask():
                found.append((row, Mask.of_run(row.run)))
        except DamagedError:
            notes.append(f"Left out, its mask is damaged: {row.address}.")
    return found


def _compared(
    ones: Sequence[tuple[Row, Mask]], others: Sequence[tuple[Row, Mask]], layer: str | None, *, is_same: bool
) -> list[Pair]:
    from pruning.masks.overlap import overlap

    if is_same:
        return [(a, b, overlap(one, other, layer)) for (a, one), (b, other) in itertools.combinations(ones, 2)]
    pairs = [(one, other) for one in ones for other in others if one[0].replicate == other[0].replicate]
    return [(a, b, overlap(one, other, layer)) for (a, one), (b, other) in pairs]


def _mean(pairs: Sequence[Pair], options: OverlapOptions) -> float:
    found = [pair.beyond_chance if options.beyond_chance else pair.jaccard for _, _, pair in pairs]
    return statistics.fmean(found) if found else math.nan


def _draw_map(
    figure: Figure, axes: Axes, table: list[list[float]], labels: Sequence[str], options: OverlapOptions
) -> None:
    import numpy as np

    lowest = min([0.0, *(value for line in table for value in line if math.isfinite(value))])
    image = axes.imshow(np.array(table), vmin=lowest, vmax=1.0, aspect="auto")
    axes.grid(visible=False)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(labels) <= _MOST_NUMBERS:
        size = 7 if len(labels) <= 8 else 5
        for i, j in itertools.product(range(len(labels)), repeat=2):
            is_known = math.isfinite(table[i][j])
            text = f"{table[i][j]:.2f}".replace("-0.00", "0.00") if is_known else "–"
            color = "white" if is_known and table[i][j] < _DARK else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=color)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label("Overlap beyond chance" if options.beyond_chance else "Jaccard index")
    bar.outline.set_visible(False)


def _point(line: Line, other: Line, pair: Pair) -> DrawnPoint:
    a, b, found = pair
    return {
        "first": line.label,
        "second": other.label,
        "jaccard": found.jaccard,
        "jaccard_by_chance": found.jaccard_by_chance,
        "beyond_chance": found.beyond_chance,
        "kept_by_first": found.first,
        "kept_by_second": found.second,
        "kept_by_both": found.both,
        "addresses": addresses_of([a, b]),
    }


OVERLAP = FigureKind(
    spelling="overlap",
    summary="how much masks overlap, pair by pair, beside what they would by chance",
    draw=draw,
    options=OverlapOptions,
)
