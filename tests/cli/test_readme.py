"""The README is a tour that runs: every command in its bash blocks, in order, as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.conftest import REPOSITORY
from tests.datasets.published_files import write_image_folders

README = REPOSITORY / "README.md"


def commands_of(text: str) -> list[str]:
    """Return the commands of the bash blocks that start with `python open_prune.py`."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("python open_prune.py")]


def commands_of_tables(text: str) -> list[str]:
    """Return the commands in the last cells of table rows, without `python open_prune.py`."""
    return re.findall(r"^\|.*\| `([^`]+)` \|$", text, flags=re.MULTILINE)


def test_commands_are_found_across_continued_lines() -> None:
    text = "```bash\npython open_prune.py train \\\n    --lr=1\nmake demo\n```\n```\npython open_prune.py no\n```\n"

    assert [command.split() for command in commands_of(text)] == [["python", "open_prune.py", "train", "--lr=1"]]


def run_the_tour(folder: Path, shortened: Callable[[list[str]], list[str]]) -> None:
    """Run the README's commands in order, each in a process of its own, with arguments that may be changed."""
    write_image_folders(folder / "flowers", ["aster", "lupin"], per_class=10, size=(40, 50))
    terminal = Terminal(folder / "runs", folder / "datasets", {"HOME": str(folder)})
    commands = commands_of(README.read_text())
    assert commands
    for command in commands:
        result = terminal.run(*shortened(shlex.split(command, comments=True)[2:]))
        assert result.code == 0, f"{command}\n{result.out}{result.err}"


SHORTER = ("--model_name=digits_resnet_8_8", "--subsample_fraction=0.2", "--batch_size=60", "--evaluate_only_at_end")
"""Five iterations an epoch of digits in place of 23, sixty in all: every step that the README names is within them."""


def test_every_command_of_the_readme_runs_on_fewer_digits(tmp_path: Path) -> None:
    run_the_tour(tmp_path, lambda words: [*words, *(SHORTER if "--default_hparams=digits_resnet_8" in words else ())])


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    run_the_tour(tmp_path, lambda words: words)


def test_every_python_block_of_the_readme_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_every_command_in_place_of_another_code_base_is_valid(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "runs", tmp_path / "datasets")
    commands = commands_of_tables(README.read_text())
    assert len(commands) >= 5
    for command in commands:
        result = terminal.run(*shlex.split(command), "--dry_run")
        assert result.code == 0, f"{command}\n{result.out}{result.err}"
        assert "not begun" in result.out
