"""Curves: a figure shows the measured values, and messages list missing ones."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.curves import CURVES, CurvesOptions
from analysis.figures.figure import DrawnFigure
from analysis.figures.style import to_bytes
from analysis.rows.run_row import Row
from foundations.errors import UsageError
from tests.analysis.rows import damaged, pruned, training

ACCURACIES = {("snip1", 0.5): (0.9, 0.92, 0.97), ("snip1", 0.9): (0.8, 0.7, 0.78), ("random", 0.5): (0.85, 0.9, 0.8),
              ("random", 0.9): (0.3, 0.5, 0.2)}  # fmt: skip


def runs() -> list[Row]:
    """Two strategies at two levels, three replicates each, and the trainings."""
    found = [training(number, accuracy) for number, accuracy in enumerate((0.95, 0.96, 0.99), 1)]
    for (strategy, sparsity), values in ACCURACIES.items():
        found += [pruned(strategy, sparsity, number, value) for number, value in enumerate(values, 1)]
    return found


def curves(rows: Sequence[Row], **options: Any) -> DrawnFigure:
    return CURVES.draw(rows, CurvesOptions(**options))


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def test_points_are_the_means_and_extremes_of_the_replicates_over_what_is_left() -> None:
    drawn = curves(runs())

    found = {(point["strategy"], round(float(point["density"] or 0), 9)): point for point in drawn.points}
    for (strategy, sparsity), values in ACCURACIES.items():
        point = found[strategy, round(1 - sparsity, 9)]
        assert point["mean"] == pytest.approx(sum(values) / 3)
        assert (point["low"], point["high"], point["n"]) == (min(values), max(values), 3)
        assert point["remaining"] == pytest.approx(100 * (1 - sparsity))
        assert [float(value) for value in str(point["values"]).split()] == list(values)


@pytest.mark.parametrize("label", [r"$\frac{1$", "from $5 to $\\frac", r"$\nope$"])
def test_labels_that_are_no_formulas_are_drawn_as_they_are(label: str) -> None:
    drawn = curves(runs(), labels=f"snip1={label}", title=label)

    assert to_bytes(drawn.figure, "png")
    assert label in [text.get_text() for text in drawn.figure.legends[0].get_texts()]


def test_a_label_that_is_wider_than_the_figure_is_wrapped() -> None:
    label = "all of the weights that SNIP would keep, " * 4 + "and no others"
    drawn = curves(runs(), labels=f"snip1={label};")
    to_bytes(drawn.figure, "png")

    texts = drawn.figure.legends[0].get_texts()
    assert label in [" ".join(text.get_text().split()) for text in texts]
    box = drawn.figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.figure.bbox.x1


def test_each_point_names_the_runs_behind_it() -> None:
    rows = runs()
    for point in curves(rows).points:
        named = str(point["addresses"]).split()
        behind = [row for row in rows if f"{row.digest}/{row.replicate}" in named]
        assert len(named) == len(behind) == 3
        assert statistics.fmean(row.results["test_accuracy"] or 0 for row in behind) == pytest.approx(point["mean"])


@pytest.mark.parametrize("x, places", [("remaining", [10, 50]), ("compression", [10, 2]), ("sparsity", [90, 50])])
@pytest.mark.parametrize("spread", ["minmax", "std"])
def test_the_lines_and_bands_that_are_drawn_are_the_points(x: str, places: list[float], spread: str) -> None:
    drawn = curves(runs(), x=x, spread=spread)
    (axes,) = drawn.figure.axes
    for strategy in ("snip1", "random"):
        points = [point for point in drawn.points if point["strategy"] == strategy]
        line = lines(axes)[strategy]
        assert list(line.get_xdata()) == pytest.approx(places)  # type: ignore[arg-type]
        assert list(line.get_ydata()) == pytest.approx([100 * float(point["mean"] or 0) for point in points])  # type: ignore[arg-type]
        vertices = next(
            band.get_paths()[0].vertices
            for band in axes.collections
            if band.get_facecolor()[0][:3] == pytest.approx(_rgb(line))  # type: ignore[index]
        )
        corners = {(round(px, 6), round(py, 6)) for px, py in vertices.tolist()}  # type: ignore[union-attr]
        expected = {
            (round(place, 6), round(100 * float(point[end] or 0), 6))
            for place, point in zip(places, points, strict=True)
            for end in ("low", "high")
        }
        assert expected <= corners


def _rgb(line: Line2D) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return to_rgb(line.get_color())


def test_remaining_weights_decrease_to_the_right() -> None:
    (axes,) = curves(runs()).figure.axes

    left, right = axes.get_xlim()
    assert left > 50 > 10 > right
    assert axes.get_xscale() == "log"


def test_the_dense_mean_is_a_dashed_black_line_with_its_band() -> None:
    drawn = curves(runs(), where="strategy=snip1")
    (axes,) = drawn.figure.axes
    dense = lines(axes)["dense"]

    assert list(dense.get_ydata()) == pytest.approx([100 * (0.95 + 0.96 + 0.99) / 3] * 2)  # type: ignore[arg-type]
    assert dense.get_color() == "black" and dense.is_dashed()
    (box,) = (patch.get_bbox() for patch in axes.patches)  # type: ignore[attr-defined]
    assert (box.y0, box.y1) == pytest.approx((95, 99))


def test_points_of_fewer_runs_are_open_and_explained() -> None:
    rows = [row for row in runs() if (row.strategy, row.replicate) != ("random", 3)]
    rows += [pruned("random", 0.9, 3, None), damaged()]

    drawn = curves(rows)

    (axes,) = drawn.figure.axes
    marked = lines(axes)["_fewer random"]
    assert list(marked.get_xdata()) == pytest.approx([10, 50])  # type: ignore[arg-type]
    assert marked.get_markerfacecolor() == "white"
    assert list(lines(axes)["_fewer snip1"].get_xdata()) == []  # type: ignore[arg-type]
    labels = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert "fewer than 3 runs" in labels
    assert any("Open markers" in note for note in drawn.notes)
    assert any("damaged" in note for note in drawn.notes)
    assert {point["missing"] for point in drawn.points if point["strategy"] == "random"} == {1}


def test_a_line_is_interrupted_where_no_run_is_complete() -> None:
    rows = [row for row in runs() if (row.strategy, row.hyperparameters.get("prune_fraction")) != ("random", 0.5)]
    incomplete = pruned("random", 0.5, 1, None)
    rows += [pruned("random", 0.2), incomplete]

    drawn = curves(rows)

    (axes,) = drawn.figure.axes
    y = [float(value) for value in lines(axes)["random"].get_ydata()]  # type: ignore[arg-type, union-attr]
    assert [math.isnan(value) for value in y] == [False, True, False]
    (empty,) = (point for point in drawn.points if point["n"] == 0)
    assert (empty["mean"], empty["left_out"]) == (None, f"{incomplete.digest}/1")


def test_a_run_that_is_not_complete_or_damaged_moves_no_point() -> None:
    added = [pruned("snip1", 0.9, 4, None), pruned("snip1", 0.9, 5, math.nan), damaged()]

    before, after = curves(runs()), curves([*runs(), *added])

    assert [point["mean"] for point in before.points] == [point["mean"] for point in after.points]
    for row in added:
        assert any(row.address in note for note in after.notes)


def test_experiments_that_differ_are_refused_unless_lines_tell_them_apart() -> None:
    rows = [pruned("snip1", 0.9, lr=0.1), pruned("snip1", 0.9, lr=0.01)]

    with pytest.raises(UsageError, match="lr") as caught:
        curves(rows)

    assert caught.value.hparams == ("lines",)
    (axes,) = curves(rows, lines="strategy,lr").figure.axes
    assert {"snip1, lr 0.1", "snip1, lr 0.01"} <= set(lines(axes))
    assert len(curves(rows, over="lr").points) == 1


def test_an_axis_of_accuracies_ends_where_accuracies_do() -> None:
    rows = [pruned("snip1", 0.9, 1, 0.1), pruned("snip1", 0.9, 2, 0.9)]

    (axes,) = curves(rows, spread="ci95").figure.axes

    low, high = axes.get_ylim()
    assert -5 < low < 0 and 100 < high < 105


def test_a_title_stands_above_the_legend() -> None:
    (legend,) = curves(runs(), title="Digits").figure.legends

    assert legend.get_title().get_text() == "Digits"


def test_panels_share_axes_and_show_the_dense_line_each() -> None:
    drawn = curves(runs(), panels="strategy", lines="dataset_name", width="double")

    first, second = drawn.figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["random", "snip1"]
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert all("dense" in lines(axes) for axes in (first, second))


@pytest.mark.parametrize(
    "rows, where", [([], None), (runs(), "strategy=synflow"), ([pruned("snip1", 0.9, 1, None)], None)]
)
def test_nothing_to_draw_is_an_error(rows: list[Row], where: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        curves(rows, where=where)

    assert caught.value.hparams == ("where",)
