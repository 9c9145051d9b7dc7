"""The command that prints a table, on computed runs; numbers are checked by code that shares nothing with it."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shutil
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from tests.cli.terminal import LENET, Terminal

STRATEGIES, LEVELS, REPLICATES = ("random", "magnitude"), ("0.5", "0.1"), (1, 2, 3)
JOB = (*LENET, "--training_steps=1ep", "--quiet")


def branch(strategy: str, density: str, replicate: int) -> tuple[str, ...]:
    flags = (f"--strategy={strategy}", f"--density={density}", f"--replicate={replicate}")
    return ("branch", "train", "oneshot", *JOB, *flags)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    """Two strategies at two levels, three replicates each, and dense trainings."""
    terminal = Terminal(tmp_path_factory.mktemp("grid"), digits)
    for strategy, density, replicate in itertools.product(STRATEGIES, LEVELS, REPLICATES):
        assert terminal.run(*branch(strategy, density, replicate)).code == 0
    for replicate in REPLICATES:
        assert terminal.run("train", *JOB, f"--replicate={replicate}").code == 0
    return terminal


@pytest.fixture
def own_grid(grid: Terminal, tmp_path: Path) -> Terminal:
    shutil.copytree(grid.root, tmp_path / "own")
    return Terminal(tmp_path / "own", grid.datasets)


def last_accuracies(root: Path) -> dict[tuple[str, int], list[float]]:
    """Return the last test accuracies of all runs by strategy and percent pruned, from their files alone."""
    found = defaultdict(list)
    for path in root.rglob("metrics.csv"):
        description = json.loads((path.parent / "description.json").read_text())
        strategy, pruned = "dense", 0
        if "main" in description:
            strategy = description["hyperparameters"]["pruning"]["strategy"]
            sparsity = json.loads((path.parent / "sparsity.json").read_text())
            layers = sparsity["layers"]
            layers = list(layers.values()) if isinstance(layers, dict) else layers
            kept, size = (sum(layer[name] for layer in layers) for name in ("kept", "total"))
            pruned = round(100 * (1 - kept / size))
        rows = [row for row in csv.DictReader(path.open()) if row["name"] == "test_accuracy"]
        found[strategy, pruned].append(float(max(rows, key=lambda row: int(row["iteration"]))["value"]))
    return found


def test_the_numbers_of_a_latex_table_are_those_of_the_runs_files(grid: Terminal, tmp_path: Path) -> None:
    expected = last_accuracies(grid.root)

    assert grid.run("table", "--out", str(tmp_path / "table.tex")).code == 0

    lines = (tmp_path / "table.tex").read_text().splitlines()
    _, head, *body = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r"\\")]
    columns = [int(re.sub(r"\D", "", name)) for name in head[1:]]
    found = {}
    for strategy, *cells in body:
        for column, cell in zip(columns, cells, strict=True):
            numbers = re.findall(r"\d+\.\d+", cell)
            if numbers:
                found[strategy, column] = tuple(map(float, numbers))
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        mean, std = (100 * statistic(values) for statistic in (statistics.fmean, statistics.stdev))
        assert found[key] == pytest.approx((mean, std), abs=0.00501), key
        assert len(values) == len(REPLICATES)


def test_an_incomplete_run_is_left_out_and_named(own_grid: Terminal) -> None:
    folder = own_grid.where(*branch("magnitude", "0.1", 2))
    (folder / "manifest.json").unlink()

    result = own_grid.run("table")

    assert "incomplete" in result.out and folder.name.rpartition("_")[2][:8] in result.out
    assert re.search(r"magnitude .*\(2\)\*", result.out)


def test_a_run_with_a_missing_file_is_left_out_and_named(own_grid: Terminal) -> None:
    folder = own_grid.where(*branch("magnitude", "0.1", 2))
    (folder / "metrics.csv").unlink()

    result = own_grid.run("table", "--where=strategy=magnitude")

    assert "damaged" in result.out and folder.name.rpartition("_")[2][:8] in result.out
    assert re.search(r"magnitude .*\(2\)", result.out)


@pytest.mark.parametrize("value", ["test_accuracy", "test_accuracy@max"])
def test_a_run_with_a_changed_metric_is_left_out_and_named(own_grid: Terminal, value: str) -> None:
    path = own_grid.where(*branch("magnitude", "0.1", 2)) / "metrics.csv"
    path.write_text(re.sub(r"(test_accuracy,\d+,0\.)\d", r"\g<1>9", path.read_text()))

    result = own_grid.run("table", f"--value={value}")

    assert "damaged" in result.out and path.parent.name.rpartition("_")[2][:8] in result.out
    assert re.search(r"magnitude .*\(2\)\*", result.out)


def test_a_result_that_was_changed_in_a_manifest_is_not_believed(own_grid: Terminal) -> None:
    path = own_grid.where(*branch("magnitude", "0.1", 2)) / "manifest.json"
    path.write_text(re.sub(r'("test_accuracy": 0\.)\d', r"\g<1>9", path.read_text()))

    assert "damaged" in own_grid.run("table").out


def test_runs_of_other_data_are_not_averaged(own_grid: Terminal, digits: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = Terminal(own_grid.root, tmp_path / "other data")
    shutil.copytree(digits, other.datasets)
    path = other.datasets / "digits" / "train.safetensors"
    tensors, metadata = load_file(path), header_of(path)
    save_file({**tensors, "images": tensors["images"].flip(0)}, path, metadata=metadata)
    command = [*branch("random", "0.5", 4)]
    assert other.run(*command).code == 0

    result = own_grid.run("table")

    result.assert_is_for_people(2, "fingerprint", "random")
    assert own_grid.run("table", "--columns=fingerprint", "--rows=strategy,sparsity").code == 0


def header_of(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--rows=stratgy",), ("--rows", "stratgy", "strategy")),
        (("--columns=sparsty",), ("--columns", "sparsty", "sparsity")),
        (("--over=lrr",), ("--over", "lrr")),
        (("--value=test_acuracy",), ("--value", "test_accuracy")),
        (("--value=test_accuracy@later",), ("--value", "later")),
        (("--spread=variance",), ("--spread", "std")),
        (("--format=word",), ("--format", "latex")),
        (("--out=table.doc",), ("--out", ".tex")),
        (("--where=lr",), ("--where",)),
    ],
)
def test_mistakes_name_the_flag_and_what_is_possible(
    two_runs: Terminal, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    two_runs.run("table", *flags).assert_is_for_people(2, *words)


def test_without_runs_the_table_says_so(terminal: Terminal) -> None:
    result = terminal.run("table")

    assert (result.code, result.err) == (0, "")
    assert "No runs under" in result.out


def test_notes_are_told_beside_a_csv(own_grid: Terminal, tmp_path: Path) -> None:
    (own_grid.where(*branch("magnitude", "0.1", 2)) / "manifest.json").unlink()

    result = own_grid.run("table", "--out", str(tmp_path / "table.csv"))

    assert "incomplete" in result.err
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + len(STRATEGIES) * len(LEVELS) + 1
