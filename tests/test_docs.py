"""The pages in docs/ are true: their commands and their Python run, their links work, their examples are examples/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.datasets.made_tables import write_shown
from tests.datasets.published_files import write_image_folders
from tests.documents import (
    PAGES,
    README,
    anchors_of,
    commands_of,
    links_of,
    python_blocks_of,
    run_blocks,
    run_commands,
    shortened,
)

EXAMPLES = {path.name: path.read_text() for path in sorted((REPOSITORY / "examples").glob("*.py"))}
INDEX = REPOSITORY / "docs/README.md"
OTHERS = ("CONTRIBUTING.md", "benchmarks/README.md", "tests/golden/README.md")
LINKING = [README, *(REPOSITORY / name for name in OTHERS), *PAGES]
OWN_WORDS = """run parent branch replicate level address description state ticket main mask strategy technique preset
root plan manifest sweep executor platform measure line point"""
# Blocks that need runs that are there (tests/analysis/test_docs.py), or the wheel (tests/training/other_loops).
ELSEWHERE = ("reading_runs.md", "other_loops.md")
HERE = [page for page in PAGES if page.name not in ELSEWHERE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    if "~/flowers" in page.read_text():
        write_image_folders(tmp_path / "flowers", ["aster", "lupin"], per_class=10, size=(40, 50))
        write_shown(tmp_path)

    run_commands(commands_of(page.read_text()), tmp_path, shortened)


@pytest.mark.parametrize("page", HERE, ids=lambda page: page.stem)
def test_every_python_block_of_a_page_runs_or_is_an_example(page: Path) -> None:
    run_blocks([block for block in python_blocks_of(page.read_text()) if block not in EXAMPLES.values()])


def test_every_example_is_shown_in_full_on_a_page() -> None:
    shown = {block for page in PAGES for block in python_blocks_of(page.read_text())}

    assert len(EXAMPLES) >= 5
    assert [name for name, text in EXAMPLES.items() if text not in shown] == []


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_their_anchors_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    links = [link.partition("#") for link in links_of(text)]
    files = {link: page.parent / link if link else page for link, _, _ in links}
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|md))\b", text)

    assert [link for link, file in files.items() if not file.exists()] == []
    assert [f"{link}#{to}" for link, _, to in links if to and to not in anchors_of(files[link].read_text())] == []
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


def test_anchors_are_those_of_github() -> None:
    text = "# One page\n\n## `--flag`: a, b & c\n\n```bash\n# a comment\n```\n\n## Files\n\n## [Files](a.md)\n"

    assert anchors_of(text) == {"one-page", "--flag-a-b--c", "files", "files-1"}


def test_links_are_found_in_prose_and_not_in_code() -> None:
    text = '[a](a.md#b) ![c](c.png)\n<img src="d.png">\n[e](https://e.org)\n```python\nf[0](g)\n```\n'

    assert links_of(text) == ["a.md#b", "c.png", "d.png"]


def test_the_index_lists_every_page_once_with_its_purpose() -> None:
    lines = [line for line in INDEX.read_text().splitlines() if line.startswith("- ")]
    listed = [link for line in lines for link in links_of(line) if "#" not in link and "/" not in link]

    assert sorted(listed) == sorted(page.name for page in PAGES if page != INDEX)
    assert [line for line in lines if len(links_of(line)) != 1] == []


def test_every_figure_of_the_documentation_is_shown_and_small() -> None:
    shown = {(page.parent / link).resolve() for page in LINKING for link in links_of(page.read_text())}
    figures = list((REPOSITORY / "docs/figures").iterdir())

    assert [figure.name for figure in figures if figure.suffix != ".png" or figure not in shown] == []
    assert [figure.name for figure in figures if figure.stat().st_size > 200_000] == []


def test_the_glossary_has_one_line_for_each_word_in_alphabetical_order() -> None:
    text = (REPOSITORY / "docs/glossary.md").read_text()
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", text, flags=re.MULTILINE)
    words = [word for word, _ in rows]

    assert words == sorted(set(words))
    assert set(OWN_WORDS.split()) - set(words) == set()
    assert [word for word, meaning in rows if len(meaning) > 200] == []
