"""The loader that suits a data set."""

from __future__ import annotations

from pathlib import Path

from datasets.batches import LoaderConfig, Loader
from datasets.hparams import DatasetHparams
from datasets.memory import MemoryLoader
from datasets.streaming import StreamingLoader


def open_loader(
    hparams: DatasetHparams, folder: Path, feed: LoaderConfig | None = None, *, workers: int | None = None
) -> Loader:
    """Open a prepared data set.

    folder: that of all data sets. workers: processes that decode image files, for data sets that are not in memory; by
    default one for each core.
    """
    feed = feed or LoaderConfig()
    if hparams.spec.in_memory:
        return MemoryLoader(hparams, folder, feed)
    return StreamingLoader(hparams, folder, feed, workers)
