"""Output of benchmarks: rows with their spread, results in JSON, and a table of these results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.results import BEGIN, END, FOLDER, README, load, names, table, write_table
from benchmarks.timing import Median, Row, median_ratio
from tests.conftest import REPOSITORY


def test_the_table_of_the_readme_is_what_the_results_give() -> None:
    text = README.read_text()

    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip("\n") == table()


def test_the_readme_names_every_benchmark_and_each_result_is_of_one() -> None:
    text = README.read_text()

    assert [name for name in names() if f"| {name} |" not in text] == []
    assert {path.stem for path in FOLDER.glob("*.json")} <= set(names())


def test_a_row_tells_its_median_number_and_spread() -> None:
    row = Row("ours / theirs", median_ratio([1.0, 4.0, 3.0, 8.0, 10.0], [1.0, 2.0, 1.0, 2.0, 2.0]), "at most 3", "how")

    assert row.to_json() == {
        "what": "ours / theirs",
        "value": 3.0,
        "unit": "",
        "aim": "at most 3",
        "is_met": True,
        "n": 5,
        "low": 2.0,
        "high": 4.0,
        "detail": "how",
    }


@pytest.mark.parametrize(
    ("value", "aim", "is_met"),
    [(1.0, "at most 1", True), (1.0, "below 1", False), (2.0, "aim: at least 2", True), (1.9, "at least 2", False)],
)
def test_an_aim_is_met_or_not(value: float, aim: str, is_met: bool) -> None:
    assert Row("x", value, aim, "").is_met is is_met
    assert Row("x", value, "", "").is_met is None


def test_of_few_measurements_the_spread_is_all_of_it() -> None:
    assert Median.of([3.0, 1.0, 2.0]).quartiles == (1.0, 3.0)


def made_results(folder: Path) -> None:
    place = {"processor": "P", "cores": 2, "memory_gib": 4.0, "gpu": "", "system": "Linux", "commit": "c"}
    row = Row("a | b", Median.of([0.01234, 0.5]), "at most 1", "how", "s").to_json()
    result = {**place, "versions": {"torch": "2"}, "date": "2026-01-01", "took_seconds": 3.0, "rows": [row]}
    (folder / "thing.json").write_text(json.dumps(result))


def test_the_table_has_a_line_for_each_row_below_its_machine(tmp_path: Path) -> None:
    made_results(tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    write_table(tmp_path, readme)

    lines = readme.read_text().splitlines()
    assert "| a \\| b | 0.2562 s | at most 1 | yes | 2 | 0.0123 to 0.5000 | how |" in lines
    assert "P, 2 cores, 4.0 GiB; Linux; torch 2; commit c; 2026-01-01; 3 s." in lines
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines


def test_the_command_runs_benchmarks_by_name_and_keeps_the_others_results_where_one_fails(tmp_path: Path) -> None:
    program = f"""
import sys
import types
from benchmarks import __main__ as entry, results
from benchmarks.timing import Row

def rows(repeats=5):
    yield Row("thing", float(repeats), "at most 1", "made up")

module = types.ModuleType("benchmarks.bench_command")
module.rows = rows
sys.modules[module.__name__] = module
sys.exit(entry.main(["--here", "command", "--repeats=1", "--results={tmp_path}"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert [row["value"] for row in load(tmp_path / "command.json")["rows"]] == [1.0]
    assert done.stdout.startswith("thing")


def test_a_benchmark_that_is_not_there_is_a_mistake_of_the_caller() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "trainings"], cwd=REPOSITORY, capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "choose from command, costs, data, " in done.stderr
