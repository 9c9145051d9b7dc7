from __future__ import annotations

import pytest

from cli.display.plain_table import duration, figure, percent, table


def test_columns_are_as_wide_as_they_need_to_be_and_an_empty_cell_is_a_dash() -> None:
    rows = [{"name": "a", "size": "1"}, {"name": "longer", "size": ""}]

    assert table(rows, ("name", "size")).splitlines() == ["NAME    SIZE", "a       1", "longer  -"]


def test_a_fraction_is_shown_as_a_percentage_and_none_as_nothing() -> None:
    assert (percent(0.12345), percent(0.0), percent(None)) == ("12.35%", "0.00%", "")


def test_a_result_that_is_no_number_is_shown_as_such() -> None:
    assert (figure(0.12345, ".3f"), figure(None, ".3f")) == ("0.123", "not a number")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59, "59 s"), (600, "10 min"), (7200, "2 h"), (864000, "10 d")],
)
def test_a_duration_is_shown_in_the_unit_a_person_would_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words
