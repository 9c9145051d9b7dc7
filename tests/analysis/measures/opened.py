"""Runs of a family, opened, and the data of digits as arrays."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.rows.run import StoredRun, open_run
from branches.desc import trained_of
from datasets.loading.batches import LoaderConfig
from datasets.loading.loader import open_loader
from foundations.description.desc import RunRef
from foundations.storage.run import Run
from tests.analysis.conftest import Family


def opened(family: Family, run: Run) -> StoredRun:
    return open_run(str(run), family.root, family.datasets)


def batches_of(run: StoredRun, split: str) -> list[tuple[Tensor, Tensor]]:
    """Return the batches of the set that a run trains or is tested on: images float64, labels."""
    dataset = trained_of(RunRef(run.description)).dataset
    loader = open_loader(dataset, run.environment.datasets, LoaderConfig(device=torch.device("cpu")), workers=0)
    batches = loader.test_batches() if split == "test" else loader.plain_train_batches()
    return [(images.double(), labels) for images, labels in batches]
