"""The README is a tour that runs: every command in its bash blocks, in order, as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.datasets.published_files import write_image_folders

README = REPOSITORY / "README.md"


def commands_of(text: str):
    """Return the commands of the bash blocks that start with `python open_prune.py`."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("python open_prune.py")]


def commands_of_tables(text: str):
    """Return the commands in the last cells of table rows, without `python open_prune.py`."""
    return re.findall(r"^\|.*\| `([^`]+)` \|$", text, flags=re.MULTILINE)


def test_commands_are_found_across_continued_lines() -> None:
    text = "```bash\npython open_prune.py train \\\n    --lr=1\nmake demo\n```\n```\npython open_prune.py no\n```\n"

    assert [command.split() for command in commands_of(text)] == [["python", "open_prune.py", "train", "--lr=1"]]


@pytest.mark.slow
@pytest.mark.skipif(not README.exists(), reason="there is no README")
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    write_image_folders(tmp_path / "flowers", ["aster", "lupin"], per_class=10, size=(40, 50))
    terminal = Terminal(tmp_path / "runs", tmp_path / "datasets", {"HOME": str(tmp_path)})
    commands = commands_of(README.read_text())
    assert commands
    for command in commands:
        result = terminal.run(*shlex.split(command, comments=True)[2:])
        assert result.code == 0, f"{command}\n{result.out}{result.err}"


@pytest.mark.skipif(not README.exists(), reason="there is no README")
def test_every_command_in_place_of_another_code_bases_is_possible(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "runs", tmp_path / "datasets")
    commands = commands_of_tables(README.read_text())
    assert len(commands) >= 5
    for command in commands:
        result = terminal.run(*shlex.split(command), "--dry_run")
        assert result.code == 0, f"{command}\n{result.out}{result.err}"
        assert "not begun" in result.out
