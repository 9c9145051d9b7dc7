"""A root with replicates of a few branches, made once and only looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from foundations.storage.run import MANIFEST, METRICS, Run
from tests.training.small_runs import context, oneshot_desc, run_of, train_desc
from training.jobs.compute import complete

STRATEGIES = ("random", "magnitude")


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """Two replicates of a training, and of two branches of it that keep three tenths of the weights."""
    root = tmp_path_factory.mktemp("grid")
    for replicate in (1, 2):
        place = context(root, digits, replicate=replicate)
        for desc in (train_desc(), *(oneshot_desc(strategy, density=0.3) for strategy in STRATEGIES)):
            complete(desc, place)
    return root


@pytest.fixture
def own_grid(grid: Path, tmp_path: Path) -> Path:
    """A copy of `grid` to do anything to."""
    shutil.copytree(grid, tmp_path / "grid")
    return tmp_path / "grid"


def branch_in(root: Path, strategy: str, replicate: int = 1) -> Run:
    """Return one of the branches in a grid."""
    return run_of(oneshot_desc(strategy, density=0.3), context(root, root, replicate=replicate))


def make_incomplete(run: Run, epochs: int = 1) -> None:
    """Cut a run back to its files after some epochs of six iterations."""
    path = run.folder / METRICS
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line == lines[0] or int(line.split(",")[1]) <= 6 * epochs]
    path.write_text("\n".join(kept) + "\n")
    (run.folder / MANIFEST).unlink()
