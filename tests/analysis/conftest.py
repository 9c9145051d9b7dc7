"""A root with every kind of run, made once and only looked at."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from branches.imported.tickets import export_ticket, import_ticket
from branches.lottery.lottery import Lottery, LotteryHparams
from foundations.storage.run import Run
from pruning.hparams import PruningHparams
from tests.branches.small_branches import branch
from tests.training.small_runs import context, run_of, train_desc
from training.context import Context
from training.jobs.compute import complete


@dataclass(frozen=True)
class Family:
    """A root, and the runs in it: a training, a branch of it, levels of a lottery, an import of the second level."""

    root: Path
    datasets: Path
    training: Run
    branch: Run
    levels: tuple[Run, Run]
    imported: Run

    @property
    def context(self) -> Context:
        return context(self.root, self.datasets)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Family:
    root = tmp_path_factory.mktemp("family")
    place = context(root, digits)
    complete(train_desc(), place)
    pruned = branch(place, "oneshot", strategy="magnitude", density=0.2, prune_step="3ep").run
    lottery = Lottery(train_desc(), PruningHparams(), LotteryHparams(rewinding_steps="4it"))
    first, second = (complete(desc, place).run for level, desc in lottery.levels(2) if level)
    export_ticket(second, None, root / "ticket.safetensors")
    imported = import_ticket(root / "ticket.safetensors", place)
    return Family(root, digits, run_of(train_desc(), place), pruned, (first, second), imported)


@pytest.fixture
def own_family(family: Family, tmp_path: Path) -> Family:
    """A copy of `family` to do anything to."""
    root = tmp_path / "copy"
    shutil.copytree(family.root, root)
    runs = (family.training, family.branch, *family.levels, family.imported)
    training, pruned, first, second, imported = (Run(root, run.location) for run in runs)
    return Family(root, family.datasets, training, pruned, (first, second), imported)
