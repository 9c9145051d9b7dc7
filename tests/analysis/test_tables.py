"""Tables of results, in every format."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.rows.run_row import Row
from analysis.tables.registry import TABLE_FORMATS
from analysis.tables.table import ResultsTable, TableOptions, level_text, make_table
from cli.commands.listing import listed
from foundations.errors import UsageError
from tests.analysis.rows import damaged, pruned, training

ROWS = (
    training(1, 0.95),
    training(2, 0.97),
    pruned("magnitude", 0.5, 1, 0.9),
    pruned("magnitude", 0.5, 2, 0.92),
    pruned("snip1", 0.5, 1, 0.94),
    pruned("snip1", 0.5, 2, 0.9),
    pruned("snip1", 0.98, 1, 0.7),
    pruned("snip1", 0.98, 2, 0.6),
)


def table(*rows: Row, **options: Any) -> ResultsTable:
    return make_table(rows or ROWS, TableOptions(**options))


def written(found: ResultsTable, name: str) -> str:
    return TABLE_FORMATS.find(name).write(found)


def texts(found: ResultsTable) -> list[list[str]]:
    return [[*line.keys, *(entry.text for entry in line.entries)] for line in found.lines]


def test_dense_networks_come_first_and_what_is_missing_is_shown() -> None:
    found = table()

    assert (found.head, found.columns) == (("strategy",), ("0%", "50%", "98%"))
    assert texts(found) == [
        ["dense", "96.00 ± 1.41", "", ""],
        ["magnitude", "", "91.00 ± 1.41", "—"],
        ["snip1", "", "92.00 ± 2.83", "65.00 ± 7.07"],
    ]
    assert "standard deviation of 2 runs" in found.caption


def test_the_best_of_each_column_is_bold_where_there_is_a_choice() -> None:
    best = {
        (line.keys[0], column) for line in table().lines for column, entry in enumerate(line.entries) if entry.is_best
    }

    assert best == {("snip1", 1)}
    assert r"\textbf{92.00 $\pm$ 2.83}" in written(table(), "latex")
    assert "**92.00 ± 2.83**" in written(table(), "markdown")
    assert "\033" not in written(table(), "text")


def test_the_sparsity_of_a_learned_mask_is_named_as_an_outcome_beside_the_requested_one() -> None:
    learned = [
        replace(training(number, technique="gem_miner", gem_miner_density=0.1), results={"sparsity": reached})
        for number, reached in ((1, 0.93), (2, 0.96))
    ]
    said = "The sparsity of gem_miner is an outcome: 93.00% to 96.00%, where 90.00% was requested."

    assert said in table(*(replace(row, results={**row.results, "test_accuracy": 0.8}) for row in learned)).notes
    assert said in listed(learned, (), None)
    assert said not in listed(ROWS, (), None)


def test_the_lowest_loss_is_the_best() -> None:
    rows = [
        replace(row, results={"test_loss": loss, "sparsity": 0.5})
        for row, loss in zip(ROWS[2:6:2], (0.5, 0.25), strict=True)
    ]

    found = table(*rows, value="test_loss")

    assert texts(found) == [["magnitude", "0.5000"], ["snip1", "0.2500"]]
    assert [line.entries[0].is_best for line in found.lines] == [False, True]


def test_numbers_of_replicates_that_differ_stand_in_the_cells() -> None:
    found = table(*ROWS, pruned("random", 0.5, 1, 0.5))

    assert ["random", "", "50.00 (1)", "—"] in texts(found)
    assert ["snip1", "", "92.00 ± 2.83 (2)", "65.00 ± 7.07 (2)"] in texts(found)


def test_runs_that_do_not_count_are_marked_and_named_in_every_format_with_notes() -> None:
    rows = (*ROWS, pruned("snip1", 0.98, 3, None), pruned("random", 0.5, 1, None), damaged())

    found = table(*rows)

    assert ["snip1", "", "92.00 ± 2.83", "65.00 ± 7.07*"] in texts(found)
    assert ["random", "", "(0)*", "—"] in texts(found)
    for each in TABLE_FORMATS:
        if each.has_notes:
            text = each.write(found)
            assert all(row.address in text for row in rows[-3:]), each.spelling
            assert "incomplete" in text and "damaged" in text


@pytest.mark.parametrize(
    ("spread", "expected"),
    [("std", "91.00 ± 1.41"), ("sem", "91.00 ± 1.00"), ("ci95", "91.00 ± 12.71"), ("minmax", "91.00 [90.00, 92.00]")],
)
def test_the_spread_can_be_chosen(spread: str, expected: str) -> None:
    assert expected in texts(table(spread=spread))[1]


def test_rows_may_have_several_keys_and_columns_any_one() -> None:
    found = table(rows="strategy,prune_fraction", columns="dataset_name")

    assert found.columns == ("digits",)
    assert [line.keys for line in found.lines] == [
        ("dense", "-"),
        ("magnitude", "0.5"),
        ("snip1", "0.5"),
        ("snip1", "0.98"),
    ]


def test_a_mean_over_different_experiments_is_refused() -> None:
    with pytest.raises(UsageError, match="prune_fraction"):
        table(columns="dataset_name")


def test_csv_has_every_cell_exactly_with_its_addresses() -> None:
    lines = list(csv.DictReader(io.StringIO(written(table(), "csv"))))

    assert len(lines) == 4
    snip = lines[-1]
    assert (snip["strategy"], float(snip["mean"]), snip["n"]) == ("snip1", (0.7 + 0.6) / 2, "2")
    assert snip["addresses"].split() == [f"{row.digest}/{row.replicate}" for row in ROWS[-2:]]
    assert table().frame()["mean"].tolist() == [float(line["mean"]) for line in lines]


@pytest.mark.parametrize(
    ("key", "level", "text"),
    [
        ("sparsity", 0.9, "90%"),
        ("sparsity", 0.9999, "99.99%"),
        ("sparsity", 1 - 0.8**7, "79%"),
        ("density", 0.2097152, "21%"),
        ("compression", 10.0, "10x"),
        ("sparsity", 1.0, "100%"),
        ("sparsity", 0.0, "0%"),
    ],
)
def test_levels_are_written_for_people(key: str, level: float, text: str) -> None:
    assert level_text(key, level) == text


def test_levels_that_are_close_are_told_apart() -> None:
    found = table(pruned("snip1", 0.9, accuracy=0.5), pruned("snip1", 0.9012, accuracy=0.4))

    assert len(set(found.columns)) == 2


HOSTILE = '[50%]* & "_x_" \\input{y} $z$ #1 ~^ {a} <b> | `c`'


def test_names_are_escaped_in_latex_and_in_markdown() -> None:
    found = table(pruned(HOSTILE, 0.9))

    latex, markdown = written(found, "latex"), written(found, "markdown")

    assert not re.search(r"(?<!\\)[%#$]", latex.partition("\n")[2].replace(r"$\pm$", ""))
    assert r"\input" not in latex
    assert r"\<b\>" in markdown and r"\|" in markdown


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    body = written(table(*ROWS, pruned(HOSTILE, 0.9), pruned("snip1", 0.98, 3, None)), "latex")
    document = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", body, r"\end{document}"]
    )
    (tmp_path / "table.tex").write_text(document)

    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


@pytest.mark.parametrize("columns, name", [("sparsity", "sparsity"), ("lr", "lr")])
def test_a_table_names_what_its_columns_are(columns: str, name: str) -> None:
    rows = [pruned("snip1", 0.5, lr=0.1), pruned("synflow", 0.5, lr=0.1)]
    made = make_table(rows, TableOptions(columns=columns))
    text = TABLE_FORMATS.find("text").write(made).splitlines()
    place = next(number for number, line in enumerate(text) if line.startswith("strategy"))

    assert text[place - 1].split() == [name]
    assert text[place - 1].index(name) == len("strategy  ")
    assert f"| {name} " in TABLE_FORMATS.find("markdown").write(made)
    assert rf"& \multicolumn{{1}}{{c}}{{{name}}} \\" in TABLE_FORMATS.find("latex").write(made)


def _asking(technique: str, density: float | None, **hyperparameters: Any) -> Row:
    """Return the row of a training with a technique that ended with 9.5% of its weights."""
    row = training(digest=f"{abs(hash((technique, density))):032x}", technique=technique, **hyperparameters)
    return replace(row, results={"test_accuracy": 0.9, "sparsity": 0.905, "density": 0.095})


def test_the_requested_density_stands_beside_the_achieved_one() -> None:
    rows = (
        pruned("random", 0.9, achieved=0.8999),
        _asking("rigl", 0.1, start_density=0.1),
        _asking("gmp", 0.2, gmp_prune_fraction=0.8),
        _asking("gmp,rigl", 0.3, gmp_prune_fraction=0.7, start_density=0.5),
        _asking("str", None, str_s_init=-5.0),
        _asking("gmp,srste", None, gmp_prune_fraction=0.5),
        _asking("smoothing,granet", 0.1, granet_density=0.1),
    )

    found = table(*rows, rows="technique,requested_density,density", columns="data")

    assert [line.keys for line in found.lines] == [
        ("gmp", "20%", "9.5%"),
        ("gmp,rigl", "30%", "9.5%"),
        ("gmp,srste", "-", "9.5%"),
        ("rigl", "10%", "9.5%"),
        ("smoothing,granet", "10%", "9.5%"),
        ("str", "-", "9.5%"),
        ("-", "10%", "10%"),
    ]
