"""The figures and tables of papers: their files, and the commands that compute and draw them."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.compare.comparison import Comparison
from analysis.figures.curves import CurvesOptions
from analysis.figures.layers import LayersOptions
from analysis.figures.lines import grouped
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.tables.table import make_table
from branches.desc import BranchDesc
from cli.commands.drawing import FigureDrawing, TableDrawing
from cli.commands.paper import parts_of, planned_paper, rows_of
from cli.commands.sweep import Asked, PlannedSweep
from cli.request.flags import value_of
from cli.request.paper_file import SCALES, find_paper, paper_names, read_paper
from foundations.description.address import MAIN
from foundations.description.desc import flat_hyperparameters
from foundations.environment import Environment
from foundations.errors import UsageError
from foundations.metrics import headline_of
from foundations.plan import PlannedRun
from foundations.reporter import NullReporter
from platforms.platform import PlatformHparams
from tests.cli.terminal import Terminal
from tests.cli.test_lightness import answers_of
from tests.conftest import REPOSITORY

Plans = Callable[[str, str], PlannedSweep]

PAPER = """
title = "Two methods"
paper = "Somebody 2020, Something"
figure = "Figure 1"
shows = "One is better."

[cpu.sweep]
command = "branch train oneshot"

[cpu.sweep.base]
default_hparams = "digits_lenet_16"
batch_size = 256
milestone_steps = "9it"
gamma = 0.1
training_steps = "3ep"

[[cpu.sweep.grid]]
name = "as found"
strategy = ["magnitude", "snip1"]
density = [0.5, 0.25]
replicate = "1-2"

[[cpu.sweep.grid]]
name = "magnitude again"
density = [0.5]

[[cpu.sweep.grid]]
command = "train"
replicate = "1-2"
"""
DRAWN = """
[[plot]]
name = "curves"
lines = ["strategy", "grid"]

[[plot]]
name = "measure"
file = "conservation"
measure = "layer_conservation"
x = "inverse_size"
y = "average_score"
panels = "strategy"

[[table]]
rows = ["strategy", "grid"]
columns = "density"

[[measure]]
name = "layer_conservation"
of = "branch="
strategy = ["magnitude", "synflow"]
"""


_SPARSITY_OF = {
    "prune_fraction": lambda level: level,
    "density": lambda level: 1 - level,
    "compression": lambda level: 1 - 1 / level,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two_methods.toml"
    path.write_text(PAPER + DRAWN)
    return path


def test_the_papers_of_the_project_are_there() -> None:
    names = paper_names()

    wanted = ["demo", "lottery_rewinding", "phew_accuracy", "phew_width", "phew_initialization", "tost"]
    wanted += ["pruning_wrapper_1", "pruning_wrapper_2", "rewinding_and_finetuning"]
    wanted += [f"missing_the_mark_{number}" for number in range(1, 9)]
    wanted += [f"synaptic_flow_{number}" for number in ("1", "2", "3", "4", "5a", "5b", "6", "7")]
    assert set(wanted) <= set(names)
    assert names.index("synaptic_flow_5b") < names.index("synaptic_flow_6")


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An empty folder, with a root and datasets that are not there."""
    folder = tmp_path_factory.mktemp("nowhere")
    return Environment(folder / "root", folder / "datasets", no_download=True)


@pytest.fixture(scope="module")
def plans(nowhere: Environment) -> Plans:
    """The plans of papers at scales, each made once."""
    return functools.cache(lambda name, scale: planned_paper(find_paper(name), scale, PlatformHparams(), nowhere))


@pytest.mark.parametrize("name", paper_names())
def test_every_paper_plans_at_each_scale_without_data(name: str, nowhere: Environment, plans: Plans) -> None:
    found = find_paper(name)

    assert set(found.sweeps) == (set(SCALES) if name != "demo" else {"cpu"})
    for scale in found.sweeps:
        planned = plans(name, scale)
        _, drawings = parts_of(found, scale)
        assert drawings
        assert planned.requested()
        assert all(asked.request.targets for asked in planned.asked)
    assert list(nowhere.root.parent.iterdir()) == []


def _row_of_finished(asked: Asked, planned: PlannedRun) -> Row:
    """Return the row of a run as if it were complete, pruned as far as its command says."""
    values = flat_hyperparameters(planned.desc.record())
    sparsity = values.get("prune_fraction")
    for flag, sparsity_of in _SPARSITY_OF.items():
        if sparsity is None and planned.run.location.name != MAIN and (text := value_of(flag, asked.argv)):
            sparsity = sparsity_of(float(text))
    if sparsity is None and planned.run.location.name != MAIN:  # it has the mask of another run
        of_sources = [flat_hyperparameters(source.desc.record()).get("prune_fraction") for source in planned.sources]
        sparsity = max((level for level in of_sources if level is not None), default=None)
    headline = headline_of(planned.desc.record()).on_test
    results = {headline: 0.9, **({} if sparsity is None else {"sparsity": sparsity, "density": 1 - sparsity})}
    return Row(run=planned.run, status="complete", hyperparameters=values, results=results, fingerprint="f")


@pytest.mark.parametrize("name", paper_names())
def test_no_point_of_a_paper_is_a_mean_of_different_experiments(
    name: str, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_paper(name)
    for scale in found.sweeps:
        planned = plans(name, scale)
        finished = {run.run.location: _row_of_finished(asked, run) for asked, _, run in planned.targets()}
        monkeypatch.setattr("cli.commands.paper.row_of", lambda run, finished=finished: finished[run.location])
        rows = rows_of(planned)

        for drawing in parts_of(found, scale)[1]:
            if isinstance(drawing, TableDrawing):
                value = drawing.options.value
                shown = [replace(row, results={**row.results, value: 0.5}) for row in rows] if value else rows
                assert make_table(shown, drawing.options).lines
            elif isinstance(drawing, FigureDrawing) and isinstance(drawing.options, CurvesOptions | LayersOptions):
                by = ["density"] if isinstance(drawing.options, CurvesOptions) else []
                assert any(point.n for point in grouped(rows, drawing.options, Value("test_accuracy"), by).pruned)


def test_the_file_that_the_documentation_shows_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs/papers.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "figure_2.toml"
    path.write_text(text)
    environment = Environment(tmp_path / "root", tmp_path / "datasets", no_download=True)

    planned = planned_paper(read_paper(path), "cpu", PlatformHparams(), environment)
    measurements, drawings = parts_of(read_paper(path), "cpu")

    assert len(rows_of(planned)) == 26
    assert (len(measurements), len(drawings)) == (1, 2)


def test_the_documentation_lists_the_papers() -> None:
    named = set(re.findall(r"`(\w+)`", (REPOSITORY / "docs/papers.md").read_text()))

    for name in paper_names():
        stem, _, number = name.rpartition("_")
        assert name in named or (stem in {each.rpartition("_")[0] for each in named} and f"_{number}" in named)


def test_papers_are_listed_with_what_they_show(terminal: Terminal) -> None:
    ((_, code, out, heavy),) = answers_of(terminal, [["papers"]])

    assert (code, heavy) == (0, [])
    text = " ".join(out.split())
    for name in paper_names():
        assert f"\n{name}\n" in f"\n{out}"
        assert find_paper(name).shows in text
        assert find_paper(name).takes["cpu"] in text


def test_a_dry_run_computes_and_writes_nothing(terminal: Terminal, file: Path) -> None:
    ((_, code, out, heavy),) = answers_of(terminal, [["paper", str(file), "--dry_run"]])

    assert (code, heavy) == (0, [])
    assert "11 runs (10 different ones), 0 done" in out
    assert not terminal.root.exists()
    assert [path.name for path in file.parent.iterdir() if path.suffix != ".toml"] == []


def test_flags_of_the_work_in_a_file_hold_unless_the_command_line_says_otherwise(
    terminal: Terminal, tmp_path: Path
) -> None:
    file, there = tmp_path / "mine.toml", tmp_path / "there"
    file.write_text(PAPER.replace("gamma = 0.1", f"gamma = 0.1\nroot = '{there}'\ndry_run = true"))

    of_file = terminal.run("paper", str(file))
    of_both = terminal.run("paper", str(file), f"--root={tmp_path / 'here'}", "--display_output_location")

    assert "0 done" in of_file.out
    assert len(of_both.out.splitlines()) == 10
    assert all(line.startswith(str(tmp_path / "here")) for line in of_both.out.splitlines())
    assert not there.exists()
    assert not terminal.root.exists()


def test_a_paper_is_computed_measured_and_drawn_of_its_runs_alone(
    own_two_runs: Terminal, file: Path, tmp_path: Path
) -> None:
    command = ("paper", str(file), f"--out={tmp_path / 'out'}", "--jobs=2")

    first = own_two_runs.run(*command)

    assert first.code == 0, first.out + first.err
    assert "Two methods (Figure 1 of Somebody 2020, Something), cpu" in first.out
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    figures = {f"{name}.{ending}" for name in ("two_methods", "conservation") for ending in ("pdf", "png", "csv")}
    assert set(written) == {*figures, "two_methods_table.tex", "two_methods_table.md"}
    assert all(f"wrote {tmp_path / 'out' / name}" in first.out for name in written)
    points = list(csv.DictReader(written["two_methods.csv"].decode().splitlines()))
    assert {(point["strategy"], point["grid"], float(point["density"]), int(point["n"])) for point in points} == {
        ("dense", "", 1.0, 2),
        *((strategy, "as found", density, 2) for strategy in ("magnitude", "snip1") for density in (0.5, 0.25)),
        ("magnitude", "magnitude again", 0.5, 1),
    }
    measured = list(csv.DictReader(written["conservation.csv"].decode().splitlines()))
    assert {point["strategy"] for point in measured} == {"magnitude", "synflow"}
    assert len({point["address"] for point in measured}) == 2

    before = own_two_runs.files()
    again = own_two_runs.run(*command)

    assert "10 of 10 runs are complete: 0 computed now, 10 before" in again.out
    assert own_two_runs.files() == before
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == written


UNTRAINED = """
title = "Untrained networks"
paper = "Somebody 2020, Something"
figure = "Figure 2"
shows = "Layers."

[cpu.sweep]
command = "branch train oneshot"

[cpu.sweep.base]
default_hparams = "digits_lenet_16"
training_steps = "0it"

[[cpu.sweep.grid]]
strategy = ["magnitude", "snip1"]
density = 0.25

[[cpu.sweep.grid]]
command = "train"

[[measure]]
name = "layer_conservation"
strategy = ["magnitude", "snip1"]

[[plot]]
name = "layers"
file = "layers"
lines = "strategy,density"

[[plot]]
name = "measure"
measure = "layer_conservation"
x = "inverse_size"
y = "average_score"
lines = "branch"
"""


def test_a_paper_of_untrained_networks_evaluates_none_unless_something_shows_their_accuracy(
    terminal: Terminal, tmp_path: Path
) -> None:
    file, again = tmp_path / "untrained.toml", Terminal(tmp_path / "again", terminal.datasets)
    file.write_text(UNTRAINED)

    made = terminal.run("paper", str(file), f"--out={tmp_path / 'out'}")
    repeated = terminal.run("paper", str(file), f"--out={tmp_path / 'out'}")

    assert made.code == 0, made.out + made.err
    assert "3 of 3 runs are complete: 3 computed now" in made.out
    assert "measured layer_conservation strategy=snip1: 3 runs" in made.out
    assert "3 of 3 runs are complete: 0 computed now, 3 before" in repeated.out
    assert not list(terminal.root.rglob("metrics.csv"))
    points = list(csv.DictReader((tmp_path / "out" / "layers.csv").read_text().splitlines()))
    assert {point["strategy"] for point in points} == {"magnitude", "snip1"}
    (tmp_path / "out").rename(tmp_path / "without")

    file.write_text(UNTRAINED + "[[table]]\nrows = 'strategy'\n")
    for each in (terminal, again):
        complete = each.run("paper", str(file), f"--out={tmp_path / each.root.name}")
        assert complete.code == 0, complete.out + complete.err

    assert len(list(terminal.root.rglob("metrics.csv"))) == 3
    assert _digests(terminal) == _digests(again)
    for drawn in (tmp_path / "without").glob("*.csv"):
        assert drawn.read_bytes() == (tmp_path / again.root.name / drawn.name).read_bytes()


def _digests(terminal: Terminal) -> dict[str, str]:
    """Return the digests of the files of runs that are the same whenever they are computed."""
    endings = (".safetensors", "metrics.csv", "sparsity.json")
    return {name: digest for name, (digest, _) in terminal.files().items() if name.endswith(endings)}


def test_a_run_of_two_grids_is_in_both_and_dense_networks_are_in_none(file: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "root", tmp_path / "datasets", no_download=True)
    planned = planned_paper(read_paper(file), "cpu", PlatformHparams(), environment)

    grids: dict[str, list[object]] = {}
    for row in rows_of(planned):
        grids.setdefault(row.location, []).append(row.hyperparameters.get("grid"))

    assert sorted(map(len, grids.values())) == [1] * 9 + [2]
    assert ["as found", "magnitude again"] in grids.values()
    assert [found for location, found in grids.items() if location.endswith("main")] == [[None], [None]]


def test_trainings_that_make_their_own_mask_are_no_dense_references_and_keep_their_grid(
    file: Path, tmp_path: Path
) -> None:
    file.write_text(
        file.read_text().replace(
            "[[cpu.sweep.grid]]",
            '[[cpu.sweep.grid]]\nname = "RigL"\ncommand = "train"\nreplicate = "1-2"\n'
            'base = { technique = "rigl", start_density = 0.2, mask_update_frequency = "1it" }\n\n[[cpu.sweep.grid]]',
            1,
        )
    )
    environment = Environment(tmp_path / "root", tmp_path / "datasets", no_download=True)
    rows = rows_of(planned_paper(read_paper(file), "cpu", PlatformHparams(), environment))

    rigl = [row for row in rows if row.hyperparameters.get("technique") == "rigl"]

    assert [row.hyperparameters.get("grid") for row in rigl] == ["RigL"] * 2
    assert [row.value("requested_density") for row in rigl] == [0.2] * 2
    begun = [replace(row, status="incomplete") for row in rows]
    points = Comparison.of(begun, ["grid", "density"], Value("test_accuracy")).points
    assert [(point.keys, point.is_dense) for point in points if point.keys[0] == "RigL"] == [(("RigL", 0.2), False)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PAPER.replace("title =", "titel ="), ["no key 'titel' here. Did you mean 'title'?"]),
        (PAPER.replace("title =", "# "), ["'title' is missing"]),
        (PAPER.replace("[cpu.", "[gpu.").replace("[[cpu.", "[[gpu."), ["no key 'gpu' here. Did you mean 'cpu'?"]),
        (PAPER.split("[cpu.sweep]")[0], ["[cpu.sweep] or [full.sweep] is missing"]),
        (PAPER.replace("density = [0.5, 0.25]", "dencity = [0.5]"), ["Did you mean '--density'?", "[cpu.sweep]"]),
        (PAPER.replace("command", "comand"), ["[cpu.sweep]", "Did you mean 'command'?"]),
        (PAPER.replace("gamma = 0.1", "density = 0.1"), ["--density", "0.5, 0.25", "fixed", "[cpu.sweep]", "as found"]),
        (PAPER.replace("gamma = 0.1", "threads = [1, 2]"), ["not a value of a flag", "[cpu.sweep]"]),
        (PAPER + "threads = [1, 2]", ["--threads", "all runs of a sweep share it", "[cpu.sweep]"]),
        (PAPER + "threads = 1", ["--threads", "not given in one, 1 in another", "[cpu.sweep]"]),
        (PAPER + "plugin = 'mine.py'", ["--plugin", "on the command line", "[cpu.sweep]"]),
        (PAPER + "[[plot]]\nlines = 'strategy'", ["[[plot]]: 'name' is missing"]),
        (PAPER + "[[plot]]\nname = 'curve'", ["[[plot]]", "Did you mean 'curves'?"]),
        (PAPER + "[[plot]]\nname = 'curves'\nline = 'strategy'", ["[[plot]]", "Did you mean '--lines'?"]),
        (PAPER + "[[plot]]\nname = 'curves'\n[[plot]]\nname = 'layers'", ["[[plot]] 2", "a `file` of its own"]),
        (PAPER + "[[plot]]\nname = 'curves'\nof = 'strategy=snip1'", ["[[plot]]", "use where"]),
        (PAPER + "[[cpu.table]]\nvalues = 'x'", ["[[cpu.table]]", "Did you mean '--value'?"]),
        (PAPER + "[[plot]]\nname = 'curves'\nlines = 'strateggy'", ["[[plot]]: lines", "Did you mean 'strategy'?"]),
        (PAPER + "[[plot]]\nname = 'curves'\nfile = '../up'", ["[[plot]]", "'../up' is not a name"]),
        (PAPER + "[[plot]]\nname = 'curves'\nlabels = ['SNIP']", ["[[plot]]", "not KEY=LABEL"]),
        (PAPER + "[[table]]\ncolumns = 'sparsty'", ["[[table]]: columns", "Did you mean 'sparsity'?"]),
        (PAPER + "[[table]]\nwhere = 'density<<3'", ["[[table]]", "where", "'density<<3' is not a condition"]),
        (PAPER + "[[table]]\nwhere = 'stratgy=snip1'", ["[[table]]: where", "Did you mean 'strategy'?"]),
        (PAPER + "[[plot]]\nname = 'measure'", ["[[plot]]: measure: name the measure that is drawn"]),
        (PAPER + "[[plot]]\nname = 'measure'\nmeasure = 'mask_overlap'", ["[[plot]]: measure: mask_overlap is of"]),
        (PAPER + "[[measure]]\nname = 'layer_conservatio'", ["[[measure]]", "Did you mean 'layer_conservation'?"]),
        (PAPER + "[[measure]]\nname = 'layer_conservation'\nstrategi = 'snip1'", ["Did you mean '--strategy'?"]),
        (PAPER + "[[measure]]\nname = 'layer_conservation'\nstrategy = 'snap1'", ["strategy: 'snap1'", "[[measure]]"]),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place_before_anything_is_computed(
    terminal: Terminal, tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)

    result = terminal.run("paper", str(path))

    assert result.code == 2, result.out
    assert all(word in result.err for word in ["mine", *words]), result.err
    assert not terminal.root.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paper"], "usage: "),
        (["paper", "dmo"], "Did you mean 'demo'?"),
        (["paper", "demo", "tost"], "give one name"),
        (["paper", "demo", "--scale=full"], "demo has no [full.sweep]"),
        (["paper", "demo", "--scale=gpu"], "Choose from cpu, full"),
        (["paper", "nowhere/mine.toml"], "Cannot read nowhere/mine.toml"),
    ],
)
def test_what_is_not_there_is_told(terminal: Terminal, arguments: list[str], words: str) -> None:
    result = terminal.run(*arguments)

    assert words in result.out + result.err


@pytest.mark.parametrize("of", ["brench=", "strategy=synflow"])
def test_a_measure_of_no_run_is_refused(file: Path, tmp_path: Path, of: str) -> None:
    file.write_text(PAPER + DRAWN.replace('"branch="', f'"{of}"'))
    found = read_paper(file)
    environment = Environment(tmp_path / "root", tmp_path / "datasets", no_download=True)

    with pytest.raises(UsageError, match=r"two_methods\.toml, \[\[measure\]\]: .*" + of.partition("=")[0]):
        rows = rows_of(planned_paper(found, "cpu", PlatformHparams(), environment))
        parts_of(found, "cpu")[0][0].measure(rows, environment, "cpu", NullReporter())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["phew_accuracy", "phew_initialization"])
def test_every_experiment_with_walks_has_masks_of_biases(name: str, scale: str, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "runs", tmp_path / "datasets", no_download=True)
    planned = planned_paper(find_paper(name), scale, PlatformHparams(), environment)

    descs = [target.desc for _, _, target in planned.targets()]
    found = {
        (desc.pruning.strategy == "phew", desc.techniques is not None and desc.techniques.technique == "bias_masks")
        for desc in descs
        if isinstance(desc, BranchDesc) and desc.pruning is not None
    }
    assert found == {(True, True), (False, False)}
