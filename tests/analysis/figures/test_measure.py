"""Figures of the results of measures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.figures.figure import DrawnFigure
from analysis.figures.measure import given_options
from analysis.figures.plot import plot
from analysis.measures.registry import MEASURES
from analysis.measures.results import measure
from analysis.rows.run import open_run
from foundations.errors import UsageError
from foundations.storage.run import Run
from tests.analysis.figures.conftest import branch_in, make_incomplete
from tests.conftest import REPOSITORY
from tests.training.small_runs import context, run_of, train_desc


@pytest.fixture(autouse=True)
def prepared(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_PRUNE_DATASETS", str(digits))


def drawn(root: Path, name: str = "effective_sparsity", **options: Any) -> DrawnFigure:
    return plot("measure", root, measure=name, **options)


def effective(run: Run) -> float:
    report = run.sparsity()
    assert report is not None
    return float(report["effective"]["density"])


def test_lines_are_means_of_what_was_measured(grid: Path) -> None:
    found = drawn(grid, y="effective_density", kind="line", where="branch=oneshot")

    (axes,) = found.figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    for strategy in ("random", "magnitude"):
        values = [effective(branch_in(grid, strategy, number)) for number in (1, 2)]
        (point,) = (point for point in found.points if point["strategy"] == strategy)
        assert point["mean"] == pytest.approx(sum(values) / 2)
        assert (point["low"], point["high"], point["n"]) == (min(values), max(values), 2)
        assert point["remaining"] == pytest.approx(30, abs=0.1)
        assert list(lines[strategy].get_ydata()) == pytest.approx([sum(values) / 2])  # type: ignore[arg-type]


def test_dots_are_the_rows_of_the_table_of_each_run(grid: Path) -> None:
    found = drawn(grid, x="size", y="kept", lines="layer", panels="strategy", where="branch=oneshot", log="x,y")

    result = measure("effective_sparsity", open_run(str(branch_in(grid, "random").location), grid))
    run = branch_in(grid, "random").location
    mine = [point for point in found.points if point["address"] == f"{run.digest}/{run.replicate}"]
    assert [(point["layer"], point["size"], point["kept"]) for point in mine] == list(
        zip(*(result.table[name] for name in ("layer", "size", "kept")), strict=True)
    )
    assert [axes.get_title() for axes in found.figure.axes] == ["random", "magnitude"]
    assert all(axes.get_xscale() == axes.get_yscale() == "log" for axes in found.figure.axes)


def test_several_values_of_an_option_are_measured_each(grid: Path) -> None:
    options = "strategy=magnitude,strategy=synflow"
    found = drawn(grid, "unit_conservation", options=options, where="branch=,replicate=1", x="in", y="out",
                  panels="strategy", lines="layer", diagonal=True, free_axes=True)  # fmt: skip

    training = open_run(str(run_of(train_desc(), context(grid, grid)).location), grid)
    for strategy in ("magnitude", "synflow"):
        table = measure("unit_conservation", training, strategy=strategy).table
        mine = [point for point in found.points if point["strategy"] == strategy]
        assert [(point["in"], point["out"]) for point in mine] == list(zip(table["in"], table["out"], strict=True))
    assert all("_diagonal" in [line.get_label() for line in axes.get_lines()] for axes in found.figure.axes)


def test_a_run_that_is_not_complete_is_not_measured_and_said_so(own_grid: Path) -> None:
    stopped = branch_in(own_grid, "random")
    make_incomplete(stopped)

    found = drawn(own_grid, where="branch=oneshot")

    assert len(found.points) == 3
    assert any("incomplete" in note and stopped.location.digest[:8] in note for note in found.notes)


def test_means_of_different_experiments_are_refused(grid: Path) -> None:
    with pytest.raises(UsageError, match="strategy"):
        drawn(grid, kind="line", lines="model_name", where="branch=oneshot")

    assert len(drawn(grid, kind="line", lines="model_name", over="strategy", where="branch=oneshot").points) == 1


def test_options_are_read_with_commas_or_semicolons() -> None:
    ratio = MEASURES.find("synaptic_flow_ratio")

    found = given_options(ratio, "iterations=1,10;exponents=1;exponents=2")

    assert [each.values for each in found] == [
        {"iterations": "1,10", "exponents": "1"},
        {"iterations": "1,10", "exponents": "2"},
    ]
    assert [each.values for each in given_options(ratio, None)] == [{}]


@pytest.mark.parametrize(
    "options, flag, words",
    [
        ({"name": None}, "measure", "name the measure"),
        ({"name": "effective_sparsty"}, "measure", "Did you mean"),
        ({"y": "densty"}, "y", "Did you mean 'density'"),
        ({"x": "nothing"}, "x", "nothing"),
        ({"options": "stp=0it"}, "options", "stp"),
        ({"options": "step"}, "options", "name=value"),
        ({"log": "z"}, "log", "'z'"),
        ({"where": "strategy=synflow"}, "where", "no complete run"),
    ],
)
def test_mistakes_are_told(grid: Path, options: dict[str, Any], flag: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        drawn(grid, **options)

    assert caught.value.hparams == (flag,)


def test_results_that_are_kept_are_drawn_without_torch(grid: Path, tmp_path: Path) -> None:
    drawn(grid)
    script = (
        f"import sys; from analysis.figures.plot import plot; "
        f"plot('measure', {str(grid)!r}, measure='effective_sparsity').write({str(tmp_path / 'a.svg')!r}); "
        "assert 'torch' not in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY).returncode == 0
