"""The choice of a dataset's loader."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

from datasets.hparams import DatasetHparams, TokenHparams
from datasets.loading.arrays import ArrayLoader
from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.memory import MemoryLoader
from datasets.loading.streaming import StreamingLoader
from datasets.loading.tokens import DocumentLoader, StreamLoader
from foundations.inputs import IMAGES


def open_loader(
    hparams: DatasetHparams,
    folder: Path,
    config: LoaderConfig | None = None,
    *,
    workers: int | None = None,
    opened: dict[Hashable, Loader] | None = None,
) -> Loader:
    """Open a prepared dataset.

    folder: the folder of all datasets. workers: processes that decode image files, for datasets that are not in memory;
    by default one for each core. opened: holds the last opened loader in memory, whose data another one can share.
    Raises: EnvironmentFailure if the prepared files are missing; DamagedError if they are damaged; UsageError for
    hyperparameters that do not suit the dataset.
    """
    config = config or LoaderConfig()
    if not hparams.spec.in_memory:
        return StreamingLoader(hparams, folder, config, workers)
    if opened is None:
        return _loader_in_memory(hparams, folder, config)
    loaded = (hparams, folder, str(config.device), config.memory_format)
    if loaded not in opened:
        opened.clear()
        opened[loaded] = _loader_in_memory(hparams, folder, config)
    return opened[loaded].with_config(config)


def _loader_in_memory(hparams: DatasetHparams, folder: Path, config: LoaderConfig) -> Loader:
    if isinstance(hparams, TokenHparams):
        return (StreamLoader if hparams.task.per_token else DocumentLoader)(hparams, folder, config)
    kind = MemoryLoader if hparams.inputs.kind == IMAGES else ArrayLoader
    return kind(hparams, folder, config)
