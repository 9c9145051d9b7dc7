from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.rows.run_row import COLUMNS, row_of
from analysis.rows.runs import runs
from foundations.errors import UsageError
from foundations.metrics import Metrics
from foundations.storage.manifest import manifest_name
from foundations.storage.run import Run
from tests.analysis.conftest import Family
from tests.analysis.foreign import make_foreign
from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.training.small_runs import oneshot_desc
from training.jobs.compute import ensure_states


def listed(family: Family, *flags: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Terminal(family.root, family.datasets).run("ls", "--json", *flags).out)
    return found


def is_same(cell: Any, value: Any) -> bool:
    """Return whether a cell of a table holds a value; None is NaN in a column of numbers or texts."""
    return bool(pd.isna(cell)) if value is None else bool(cell == value)


def test_the_table_has_a_row_for_each_run_in_the_order_of_ls_with_what_ls_prints(family: Family) -> None:
    table, entries = runs(root=family.root), listed(family)

    assert list(table.location) == [entry["location"] for entry in entries]
    assert len(table) == 5
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    for row, entry in zip(table.to_dict("records"), entries, strict=True):
        for name in ("address", "digest", "replicate", "branch", "status", "model", "data", "strategy"):
            assert is_same(row[name], entry[name]), name
        for name, value in entry["results"].items():
            assert is_same(row[name], value), name
        for name, value in entry["hyperparameters"].items():
            assert is_same(row.get(f"hparam.{name}", row[name]), value), name


def test_numbers_are_numbers_and_what_a_run_lacks_is_nan(family: Family) -> None:
    table = runs(root=family.root).set_index("location")

    assert table.accuracy.dtype == table.prune_fraction.dtype == table.sparsity.dtype == "float64"
    assert math.isnan(table.sparsity[str(family.training)])
    assert table.sparsity[str(family.branch)] == pytest.approx(0.8, abs=1e-3)
    assert pd.isna(table.strategy[str(family.training)])
    assert pd.isna(table.accuracy[str(family.imported)])


def test_a_hyperparameter_with_the_name_of_a_result_has_a_prefix_whatever_is_selected(family: Family) -> None:
    everything, trainings = runs(root=family.root), runs({"location": str(family.branch)}, root=family.root)

    for table in (everything, trainings):
        assert "hparam.density" in table
        assert table["hparam.density"].isna().all()
    assert everything.density.notna().sum() == 4
    assert len(runs({"hparam.density": None}, family.root)) == 5
    assert len(runs({"result.density": None}, family.root)) == 1


@pytest.mark.parametrize(
    ("text", "mapping", "count"),
    [
        ("strategy=magnitude", {"strategy": "magnitude"}, 3),
        ("strategy=Magnitude,status=complete", {"strategy": "Magnitude", "status": "complete"}, 3),
        ("lr=1e-1", {"lr": 0.1}, 5),
        ("prune_fraction=0.8", {"prune_fraction": 0.8}, 1),
        ("prune_fraction=0.36", {"prune_fraction": 0.36}, 1),
        ("prune_fraction=0.2,prune_fraction=0.8", {"prune_fraction": [0.2, 0.8]}, 2),
        ("branch=", {"branch": ""}, 2),
        ("strategy=none", {"strategy": None}, 2),
        ("nesterov_momentum=0", {"nesterov_momentum": 0}, 5),
        ("lr=0.2", {"lr": [0.2]}, 0),
        ("", {}, 5),
    ],
)
def test_where_is_a_text_or_a_mapping(family: Family, text: str, mapping: dict[str, Any], count: int) -> None:
    by_text, by_mapping = runs(text, root=family.root), runs(mapping, root=family.root)

    assert list(by_text.location) == list(by_mapping.location)
    assert len(by_text) == count
    assert list(by_text.location) == [entry["location"] for entry in listed(family, f"--where={text}")]


def test_where_takes_values_out_of_a_table(family: Family) -> None:
    table = runs(root=family.root)

    assert len(runs({"prune_fraction": table.prune_fraction.dropna().unique()}, root=family.root)) == 3
    assert len(runs({"batch_size": table.batch_size.iloc[0]}, root=family.root)) == 5


@pytest.mark.parametrize(
    ("where", "words"),
    [("strategy", "is not key=value"), ("stategy=x", "no run has a 'stategy'. Did you mean 'strategy'?")],
)
def test_a_where_that_cannot_be_meant_is_refused(family: Family, where: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")) as error:
        runs(where, root=family.root)
    assert error.value.hparams == ("where",)


@pytest.mark.parametrize("where", [5, ["status=complete"]])
def test_a_where_that_is_no_text_and_no_mapping_is_refused(family: Family, where: Any) -> None:
    with pytest.raises(UsageError, match="where: it takes a text"):
        runs(where, root=family.root)


def test_an_empty_root_and_a_missing_one_have_no_runs(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        table = runs("strategy=snip10", root=root)
        assert len(table) == 0
        assert tuple(table.columns) == COLUMNS


def test_the_root_is_that_of_the_environment(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_PRUNE_ROOT", str(family.root))

    assert len(runs()) == 5


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("description.json", "{", "is damaged: it is not JSON"),
        ("description.json", "[]", "is damaged: it is not a JSON object"),
        ("description.json", "{}", "does not describe the directory"),
        ("manifest.json", '{"files": {}}', "is damaged: it is not a manifest"),
        ("manifest.json", '{"files": {}, "results": 5}', "is damaged: it is not a manifest"),
        ("metrics.csv", "", "it has 0 bytes"),
        ("description.json", None, "There is no description.json"),
        ("metrics.csv", None, "it is missing"),
    ],
)
def test_a_run_that_cannot_be_read_is_a_row_with_its_problem(
    own_family: Family, name: str, content: str | None, words: str
) -> None:
    path = own_family.branch.folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)

    table = runs(root=own_family.root).set_index("location")

    assert table.status[str(own_family.branch)] == "damaged"
    assert words in table.problem[str(own_family.branch)]
    assert sorted(table.status) == ["complete"] * 4 + ["damaged"]
    assert sorted(table.problem)[:4] == [""] * 4


def test_a_description_without_its_training_is_a_row_with_its_problem(own_family: Family) -> None:
    path = own_family.branch.folder / "description.json"
    record = json.loads(path.read_text())
    record.pop("sha256")  # a file without a checksum
    record["main"]["hyperparameters"] = 5
    path.write_text(json.dumps(record))

    assert row_of(own_family.branch).status == "damaged"
    assert len(runs(root=own_family.root)) == 5


def test_a_run_of_an_unknown_kind_is_a_row_with_its_status_and_its_problem(own_family: Family) -> None:
    location = make_foreign(own_family.branch, kind="sparkle_more")

    table = runs(root=own_family.root).set_index("location")

    assert table.status[location] == "complete"
    assert table.branch[location] == "sparkle_more"
    assert table.strategy[location] == "magnitude"
    assert "'sparkle_more' is not a kind of run" in table.problem[location]
    terminal = Terminal(own_family.root, own_family.datasets)
    assert terminal.run("ls").code == 0
    shown = terminal.run("show", location)
    assert shown.code == 0, shown.err
    assert "'sparkle_more' is not a kind of run" in shown.out
    assert "test_accuracy" in shown.out


def test_a_run_that_was_cut_off_is_incomplete_and_has_no_results(own_family: Family) -> None:
    desc = oneshot_desc(density=0.4)
    ensure_states(desc, own_family.context, [desc.start.at(6)])

    table = runs("status=incomplete", root=own_family.root)

    assert list(table.digest) == [desc.digest]
    assert list(table.prune_fraction) == [pytest.approx(0.6)]
    assert table.accuracy.isna().all()
    assert "test_accuracy" not in table


def test_techniques_of_the_training_are_not_those_of_its_branches(own_family: Family) -> None:
    path = own_family.branch.folder / "description.json"
    record = json.loads(path.read_text())
    record.pop("sha256")  # a file without a checksum
    record["main"]["hyperparameters"]["techniques"] = {"technique": "rigl"}
    text = json.dumps(record)
    path.write_text(text)
    manifest_path = own_family.branch.folder / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["files"]["description.json"]["size"] = len(text)
    manifest.pop("sha256")
    manifest_path.write_text(json.dumps(manifest))

    assert "technique" not in row_of(own_family.branch).hyperparameters

    record["hyperparameters"]["techniques"] = {"technique": "set"}
    path.write_text(json.dumps(record))
    manifest["files"]["description.json"]["size"] = path.stat().st_size
    manifest_path.write_text(json.dumps(manifest))

    assert row_of(own_family.branch).hyperparameters["technique"] == "set"


def test_a_result_that_was_not_a_finite_number_is_nan(own_family: Family) -> None:
    path = own_family.training.path(manifest_name(own_family.training.manifest_number()))
    manifest = json.loads(path.read_text())
    manifest["results"]["test_loss"] = None
    path.write_text(json.dumps(manifest))

    table = runs(root=own_family.root).set_index("location")

    assert math.isnan(table.test_loss[str(own_family.training)])
    assert table.test_loss[str(own_family.branch)] == own_family.branch.metrics().last("test_loss")


def test_reading_runs_imports_no_torch_and_no_pandas_before_a_table_is_asked_for(family: Family) -> None:
    script = """
import sys
from analysis.rows.run import open_run
from analysis.rows.runs import runs
loaded = lambda: sorted({"torch", "torchvision", "pandas", "numpy"} & set(sys.modules))
run = open_run(sys.argv[1])
run.status, run.hyperparameters, run.results, run.metrics, run.description, run.parents, run.children(), run.steps
print(loaded())
assert len(runs()) == 5
run.metrics_frame()
print(loaded())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(family.branch)],
        cwd=REPOSITORY,
        env={**os.environ, "OPEN_PRUNE_ROOT": str(family.root), "OPEN_PRUNE_DATASETS": str(family.datasets)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "['numpy', 'pandas']"]


def test_looking_changes_nothing(family: Family) -> None:
    before = {path: path.stat().st_mtime_ns for path in family.root.rglob("*")}

    runs(root=family.root)
    assert isinstance(Run(family.root, family.branch.location).metrics(), Metrics)

    assert {path: path.stat().st_mtime_ns for path in family.root.rglob("*")} == before
