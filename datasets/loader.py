"""The loader that suits a dataset."""

from __future__ import annotations

from pathlib import Path

from datasets.batches import Loader, LoaderConfig
from datasets.hparams import DatasetHparams
from datasets.memory import MemoryLoader
from datasets.streaming import StreamingLoader


def open_loader(
    hparams: DatasetHparams, folder: Path, config: LoaderConfig | None = None, *, workers: int | None = None
) -> Loader:
    """Open a prepared dataset.

    folder: that of all datasets. workers: processes that decode image files, for datasets that are not in memory; by
    default one for each core.
    Raises: EnvironmentFailure where the prepared files are missing; DamagedError where they are damaged; UsageError for
    hyperparameters that do not suit the dataset.
    """
    config = config or LoaderConfig()
    if hparams.spec.in_memory:
        return MemoryLoader(hparams, folder, config)
    return StreamingLoader(hparams, folder, config, workers)
