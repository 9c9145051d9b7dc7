from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.terminal import SHORT, Terminal

BRANCH = ("branch", "train", "oneshot", *SHORT, "--strategy=snip1", "--density=0.1")


@pytest.fixture
def terminal(tmp_path: Path, digits: Path) -> Terminal:
    """An empty root."""
    return Terminal(tmp_path / "root", digits)


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    """A root that holds a training and a branch of it. Only to be looked at."""
    terminal = Terminal(tmp_path_factory.mktemp("two runs"), digits)
    for arguments in (("train", *SHORT), BRANCH):
        result = terminal.run(*arguments)
        assert result.code == 0, result.err
    return terminal


@pytest.fixture
def own_two_runs(two_runs: Terminal, tmp_path: Path) -> Terminal:
    """A copy of `two_runs` to do anything to."""
    shutil.copytree(two_runs.root, tmp_path / "copy")
    return Terminal(tmp_path / "copy", two_runs.datasets)
