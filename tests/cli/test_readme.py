"""The README is a tour that runs: every command in its bash blocks, in order, as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.datasets.published_files import write_image_folders
from tests.documents import README, commands_of, python_blocks_of, run_blocks, run_commands, shortened


def commands_of_tables(text: str) -> list[str]:
    """Return the commands in the last cells of table rows, without `python open_prune.py`."""
    return re.findall(r"^\|.*\| `((?:train|branch) [^`]+)` \|$", text, flags=re.MULTILINE)


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


def test_every_command_in_place_of_another_code_base_is_valid(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "runs", tmp_path / "datasets")
    commands = commands_of_tables(README.read_text())
    assert len(commands) >= 5
    for command in commands:
        result = terminal.run(*shlex.split(command), "--dry_run")
        assert result.code == 0, f"{command}\n{result.out}{result.err}"
        assert "not begun" in result.out
