"""The README is a tour that runs: every command in its bash blocks, in order, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.published_files import write_image_folders
from tests.documents import README, commands_of, python_blocks_of, run_blocks, run_commands, shortened


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with the images that the README adds as a dataset."""
    write_image_folders(tmp_path / "flowers", ["aster", "lupin"], per_class=10, size=(40, 50))
    return tmp_path


def test_commands_are_found_across_continued_lines() -> None:
    text = "```bash\npython open_prune.py train \\\n    --lr=1\nmake demo\n```\n```\npython open_prune.py no\n```\n"

    assert [command.split() for command in commands_of(text)] == [["python", "open_prune.py", "train", "--lr=1"]]


def test_every_command_of_the_readme_runs_on_fewer_digits(home: Path) -> None:
    commands = commands_of(README.read_text())

    assert len(commands) > 20
    run_commands(commands, home, shortened)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(home: Path) -> None:
    run_commands(commands_of(README.read_text()), home, lambda words: words)


def test_every_python_block_of_the_readme_runs() -> None:
    blocks = python_blocks_of(README.read_text())

    assert blocks
    run_blocks(blocks)
