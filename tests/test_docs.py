"""The pages in docs/ say what is so: their commands and their Python run, and their examples are those in examples/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.documents import PAGES, README, commands_of, python_blocks_of, run_blocks, run_commands, shortened

EXAMPLES = {path.name: path.read_text() for path in sorted((REPOSITORY / "examples").glob("*.py"))}
# Its blocks need runs that are there: tests/analysis/test_docs.py.
WITHOUT_RUNS = [page for page in PAGES if page.name != "reading_runs.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    run_commands(commands_of(page.read_text()), tmp_path, shortened)


@pytest.mark.parametrize("page", WITHOUT_RUNS, ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs_or_is_an_example(page: Path) -> None:
    run_blocks([block for block in python_blocks_of(page.read_text()) if block not in EXAMPLES.values()])


def test_every_example_is_shown_in_full_on_a_page() -> None:
    shown = {block for page in PAGES for block in python_blocks_of(page.read_text())}

    assert len(EXAMPLES) >= 5
    assert [name for name, text in EXAMPLES.items() if text not in shown] == []


@pytest.mark.parametrize("page", [README, REPOSITORY / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.stem)
def test_links_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text)]
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md))\b", text)

    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in named if not (REPOSITORY / path).exists()] == []
