"""The choice of a dataset's loader."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable
from pathlib import Path

from datasets.hparams import DatasetHparams, TokenHparams
from datasets.loading.arrays import ArrayLoader
from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.memory import MemoryLoader
from datasets.loading.streaming import StreamingLoader
from datasets.loading.tokens import DocumentLoader, StreamLoader
from datasets.prepared import SPLITS
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
    by default one for each core. opened: holds the last opened loader in memory, whose data another one can share, as
    long as the prepared files are the same.
    Raises: EnvironmentFailure if the prepared files are missing; DamagedError if they are damaged; UsageError for
    hyperparameters that do not suit the dataset.
    """
    config = config or LoaderConfig()
    if not hparams.spec.in_memory:
        return StreamingLoader(hparams, folder, config, workers)
    if opened is None:
        return _loader_in_memory(hparams, folder, config)
    files = tuple(_identity(folder / hparams.spec.spelling / f"{split}.safetensors") for split in SPLITS)
    loaded = (hparams, folder, str(config.device), config.memory_format, files)
    if loaded not in opened:
        opened.clear()
        opened[loaded] = _loader_in_memory(hparams, folder, config)
    return opened[loaded].with_config(config)


def _identity(path: Path) -> tuple[int, ...]:
    """Return numbers that differ for another file of the name, or another content; none where there is no file."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return ()


def _loader_in_memory(hparams: DatasetHparams, folder: Path, config: LoaderConfig) -> Loader:
    if isinstance(hparams, TokenHparams):
        return (StreamLoader if hparams.task.per_token else DocumentLoader)(hparams, folder, config)
    kind = MemoryLoader if hparams.inputs.kind == IMAGES else ArrayLoader
    return kind(hparams, folder, config)
