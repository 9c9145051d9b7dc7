"""Names that people give the lines of tables, figures and reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures.curves import CURVES, CurvesOptions
from analysis.report.page import page_of
from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.tables.table import ResultsTable, TableOptions, make_table
from foundations.errors import UsageError
from tests.analysis.report.pages import write_pruned, write_training
from tests.analysis.rows import pruned, training

ROWS = [training(), *(pruned(name, 0.9, accuracy=0.5, lr=0.1) for name in ("snip10", "snip100", "magnitude"))]


def table(labels: str, rows: str = "strategy", runs: list[Row] = ROWS) -> ResultsTable:
    return make_table(runs, TableOptions(rows=rows, labels=labels))


def legend(labels: str, lines: str = "strategy", panels: str | None = None) -> list[str]:
    drawn = CURVES.draw(ROWS, CurvesOptions(labels=labels, lines=lines, panels=panels))
    return [text.get_text() for text in drawn.figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    "key", ["snip10", "oneshot:snip10", "strategy=snip10", " snip10 "]
)  # fmt: skip
def test_a_line_is_named_by_its_strategy_or_branch_and_strategy(key: str) -> None:
    assert "SNIP" in legend(f"{key}=SNIP")
    assert ("SNIP",) in [line.keys for line in table(f"{key}=SNIP").lines]


def test_the_other_lines_keep_their_names() -> None:
    assert set(legend("snip10=SNIP,dense=Unpruned")) == {"Unpruned", "magnitude", "SNIP", "snip100"}


def test_a_label_stands_for_its_part_of_a_name_or_for_the_whole() -> None:
    assert "SNIP, lr 0.1" in legend("snip10=SNIP", "strategy,lr")
    assert "SNIP, fast" in legend("snip10=SNIP,lr 0.1=fast", "strategy,lr")
    assert "S" in legend("snip10, lr 0.1=S;", "strategy,lr")
    assert ("SNIP", "0.1") in [line.keys for line in table("snip10=SNIP", "strategy,lr").lines]


def test_branch_and_strategy_are_one_thing_where_both_tell_lines_apart() -> None:
    assert "IMP" in legend("oneshot:magnitude=IMP", "branch,strategy")


def test_keys_and_labels_may_have_equals_signs_and_commas() -> None:
    assert "SNIP (k=10), ours" in legend("strategy=snip10=SNIP (k=10), ours;")


def test_panels_and_columns_are_named_too() -> None:
    drawn = CURVES.draw(ROWS, CurvesOptions(labels="snip10=SNIP,lr 0.1=fast", lines="lr", panels="strategy"))
    made = make_table(ROWS, TableOptions(rows="lr", columns="strategy", labels="snip10=SNIP"))

    assert "SNIP" in [axes.get_title() for axes in drawn.figure.axes]
    assert "SNIP" in made.columns


@pytest.mark.parametrize(
    "labels, words",
    [
        ("snip1=SNIP", "no line is 'snip1'. Did you mean .* The lines are dense; magnitude; snip10; snip100"),
        ("lottery:snip10=SNIP", "no line is 'lottery:snip10'"),
        ("snip10", "'snip10' is not KEY=LABEL"),
        ("snip10=", "is not KEY=LABEL"),
        ("=SNIP", "is not KEY=LABEL"),
        ("snip10=A,snip10=B", "two labels, 'A' and 'B'"),
        ("snip10=SNIP,snip100=SNIP", "'snip10' and 'snip100' would both be called 'SNIP'"),
        ("snip10=magnitude", "would both be called 'magnitude'"),
    ],
)
def test_a_mistake_is_refused_and_names_the_lines(labels: str, words: str) -> None:
    for draw in (table, legend):
        with pytest.raises(UsageError, match=words) as error:
            draw(labels)
        assert error.value.hparams == ("labels",)


def test_a_line_with_a_label_keeps_its_colour() -> None:
    looks = [
        {
            line.get_label(): line.get_color()
            for line in CURVES.draw(ROWS, CurvesOptions(labels=labels)).figure.axes[0].lines
        }
        for labels in (None, "snip10=SNIP")
    ]

    assert looks[0]["snip10"] == looks[1]["SNIP"]


def test_reports_take_the_same_labels(tmp_path: Path) -> None:
    from analysis.rows.runs import read_rows

    write_training(tmp_path)
    for strategy in ("snip1", "mine"):
        write_pruned(tmp_path, strategy, 0.5)

    page = page_of(read_rows(tmp_path), Value.parse("test_accuracy"), labels="snip1=SNIP,oneshot:mine=Ours,dense=Full")

    assert [line.label for line in page.comparison.lines] == ["Full", "Ours", "SNIP"]
    assert [line.keys for line in page.comparison.lines if not line.is_dense] == [("mine",), ("snip1",)]
    assert page.title == "Ours and SNIP on digits"
