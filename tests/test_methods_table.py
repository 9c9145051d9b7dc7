"""The table of methods is up to date, and says something about each."""

from __future__ import annotations

import pytest

from pruning.registry import ALLOCATIONS, METHODS
from tests.methods_table import PAGE, page
from training.registry import TECHNIQUES


def test_the_table_of_methods_is_that_of_the_registries() -> None:
    assert PAGE.read_text() == page(), "python -m tests.methods_table --write"


@pytest.mark.parametrize("spelling", METHODS.spellings())
def test_every_method_says_what_it_costs(spelling: str) -> None:
    assert METHODS.find(spelling.replace("N", "10")).passes


def test_every_entry_has_a_row() -> None:
    lines = page().splitlines()
    own = [entry for entry in (*METHODS, *ALLOCATIONS, *TECHNIQUES) if entry.plugin is None]
    for entry in own:
        assert any(line.startswith(f"| `{entry.spelling}` |") for line in lines)
