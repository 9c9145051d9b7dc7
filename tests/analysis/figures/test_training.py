"""Curves of training: the values of metrics.csv, averaged if all replicates are complete."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from analysis.figures.figure import DrawnFigure
from analysis.figures.plot import plot
from foundations.errors import UsageError
from foundations.storage.run import METRICS, Run
from tests.analysis.figures.conftest import STRATEGIES, branch_in, make_incomplete


def measured(run: Run, name: str) -> dict[float, float]:
    """Return a run's values of a metric, by epoch of six iterations."""
    with (run.folder / METRICS).open() as file:
        return {int(row["iteration"]) / 6: float(row["value"]) for row in csv.DictReader(file) if row["name"] == name}


def training(root: Path, **options: Any) -> DrawnFigure:
    return plot("training", root, **options)


@pytest.mark.parametrize("metric, scale", [("test_loss", 1), ("test_accuracy", 100)])
def test_lines_are_the_means_of_the_replicates_at_each_epoch(grid: Path, metric: str, scale: float) -> None:
    drawn = training(grid, value=metric)

    (axes,) = drawn.figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert {*STRATEGIES, "dense"} == set(lines)
    for strategy in STRATEGIES:
        one, other = (measured(branch_in(grid, strategy, number), metric) for number in (1, 2))
        points = [point for point in drawn.points if point["strategy"] == strategy]
        assert [point["epoch"] for point in points] == sorted(one) == [0, 1, 2, 3]
        for point in points:
            epoch = float(point["epoch"] or 0)
            assert point["mean"] == pytest.approx((one[epoch] + other[epoch]) / 2)
            assert (point["low"], point["high"]) == (min(one[epoch], other[epoch]), max(one[epoch], other[epoch]))
        assert list(lines[strategy].get_xdata()) == sorted(one)  # type: ignore[arg-type]
        means = [scale * float(point["mean"] or 0) for point in points]
        assert list(lines[strategy].get_ydata()) == pytest.approx(means)  # type: ignore[arg-type]


def test_a_run_that_is_not_complete_is_dotted_and_in_no_mean(own_grid: Path) -> None:
    stopped, other = (branch_in(own_grid, "random", number) for number in (1, 2))
    make_incomplete(stopped)

    drawn = training(own_grid)

    points = [point for point in drawn.points if point["strategy"] == "random"]
    whole = [point for point in points if point["is_complete"]]
    assert {point["epoch"]: point["mean"] for point in whole} == measured(other, "test_accuracy")
    partial = {point["epoch"]: point["mean"] for point in points if not point["is_complete"]}
    assert partial == measured(stopped, "test_accuracy")
    assert set(partial) == {0, 1}
    (axes,) = drawn.figure.axes
    (line,) = (line for line in axes.get_lines() if str(line.get_label()).startswith("_unfinished"))
    assert line.get_linestyle() == ":"
    assert "not complete" in [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert any("not complete" in note for note in drawn.notes)


def test_metrics_that_are_not_those_of_the_manifest_are_left_out_and_said_so(own_grid: Path) -> None:
    run = branch_in(own_grid, "magnitude")
    path = run.folder / METRICS
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))

    drawn = training(own_grid)

    assert not any(run.location.digest + "/1" in str(point["addresses"]).split() for point in drawn.points)
    assert any("damaged" in note and run.location.digest[:8] in note for note in drawn.notes)


def test_trainings_that_nothing_prunes_are_drawn(grid: Path) -> None:
    (axes,) = training(grid, where="branch=").figure.axes

    assert [line.get_label() for line in axes.get_lines()] == ["dense"]


@pytest.mark.parametrize("value", ["test_accuracy@best", "test_acuracy"])
def test_what_is_no_metric_is_refused(grid: Path, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        training(grid, value=value)

    assert caught.value.hparams == ("value",)
