"""The README is a front page that runs: every command in its bash blocks, in order, as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import README, commands_of, python_blocks_of, run_blocks, run_commands, shortened


def test_commands_are_found_across_continued_lines() -> None:
    text = "```bash\npython open_prune.py train \\\n    --lr=1\nmake demo\n```\n```\npython open_prune.py no\n```\n"

    assert [command.split() for command in commands_of(text)] == [["python", "open_prune.py", "train", "--lr=1"]]


def test_every_command_of_the_readme_runs_on_fewer_digits(tmp_path: Path) -> None:
    commands = commands_of(README.read_text())

    assert len(commands) == 12
    run_commands(commands, tmp_path, shortened)


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    run_commands(commands_of(README.read_text()), tmp_path, lambda words: words)


def test_every_python_block_of_the_readme_runs() -> None:
    blocks = python_blocks_of(README.read_text())

    assert blocks
    run_blocks(blocks, is_bare=True)  # as users type them


def test_the_readme_is_a_front_page() -> None:
    assert len(README.read_text().splitlines()) <= 200
