"""The command that draws figures."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.cli.test_lightness import answers_of

PLUGIN = '''
from dataclasses import dataclass
from matplotlib.figure import Figure
from open_prune import DrawnFigure, FigureKind, FigureOptions, hparam

@dataclass(frozen=True, kw_only=True)
class CountOptions(FigureOptions):
    """What is counted."""

    color: str = hparam("red")
    """The colour of the bar."""

def draw(rows, options):
    figure = Figure()
    figure.subplots().bar(["runs"], [len(rows)], color=options.color)
    return DrawnFigure(figure, ({"runs": len(rows)},), ("A bar.",))

COUNT = FigureKind(spelling="count", summary="how many runs there are", draw=draw, options=CountOptions)
'''


def test_a_figure_is_written_in_each_format_with_its_points_beside_it(two_runs: Terminal, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("here/a.pdf", "here/a.svg", "there.png")]

    result = two_runs.run("plot", "curves", f"--out={','.join(map(str, files))}")

    assert result.code == 0, result.err
    assert all(path.stat().st_size > 1000 for path in files)
    for path in (tmp_path / "here/a.csv", tmp_path / "there.csv"):
        assert f"wrote {path}" in result.out
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert [row["strategy"] for row in rows] == ["dense", "snip1"]
        assert all(two_runs.run("show", row["addresses"]).code == 0 for row in rows)
    assert "Each point is a single run." in result.out


@pytest.mark.parametrize("kind", ["curves", "training", "layers"])
def test_figures_import_no_torch(two_runs: Terminal, tmp_path: Path, kind: str) -> None:
    ((_, code, out, heavy),) = answers_of(two_runs, [["plot", kind, f"--out={tmp_path / 'a.png'}"]])

    assert code == 0, out
    assert "torch" not in heavy


def test_kinds_are_listed(two_runs: Terminal) -> None:
    out = two_runs.run("plot").out

    assert all(f"\n{kind} " in out for kind in ("curves", "training", "layers", "overlap"))
    assert "--spread" in two_runs.run("plot", "curves", "--help").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("curvs",), ("'curvs' is not a valid value. Did you mean 'curves'?",)),
        (("curves", "more"), ("plot takes one kind of figure",)),
        (("--out=a.pdf",), ("plot takes one kind of figure",)),
        (("curves", "--out=a.jpg"), ("--out: 'a.jpg'", ".pdf, .svg, .png")),
        (("curves", "--out=a"), ("--out: 'a'",)),
        (("curves", "--where=strategy=synflow"), ("--where: no run is chosen",)),
        (("curves", "--width=wide"), ("--width: 'wide'", "single, double")),
        (("curves", "--value=test_acuracy"), ("--value:", "Did you mean 'test_accuracy'?")),
        (("curves", "--spread=minmx"), ("--spread:", "Did you mean 'minmax'?")),
        (("curves", "--lines=lrr"), ("no run has a 'lrr'. Did you mean 'lr'?",)),
        (("curves", "--lines="), ("--lines:",)),
        (("training", "--value=test_accuracy@max"), ("--value:",)),
    ],
)
def test_mistakes_are_told(two_runs: Terminal, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    two_runs.run("plot", *arguments).assert_is_for_people(2, *words)


def test_nothing_is_written_where_nothing_is_drawn(two_runs: Terminal, tmp_path: Path) -> None:
    two_runs.run("plot", "curves", "--where=strategy=random", f"--out={tmp_path / 'a.pdf'}")

    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(two_runs: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    result = two_runs.run("plot", "curves", f"--out={tmp_path / 'file/a.pdf'}")

    result.assert_is_for_people(1, "Cannot write", "a.pdf")


def test_a_kind_of_figure_of_ones_own(two_runs: Terminal, tmp_path: Path) -> None:
    (tmp_path / "my_figure.py").write_text(PLUGIN)
    plugin = f"--plugin={tmp_path / 'my_figure.py'}"

    result = two_runs.run("plot", "count", plugin, "--color=blue", f"--out={tmp_path / 'a.svg'}")

    assert result.code == 0, result.err
    assert "A bar." in result.out
    assert (tmp_path / "a.csv").read_text() == "runs\n2\n"
    assert "how many runs there are" in two_runs.run("plot", plugin).out
