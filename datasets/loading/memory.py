"""Batches of a dataset that fits in memory: uint8 tensors on the device, and batched tensor code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from datasets.augmentations import transforms
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Batch, Loader, LoaderConfig
from datasets.loading.changes import changed_examples, changed_test_examples
from datasets.prepared import load_split
from datasets.split_checks import checked_images


class MemoryLoader(Loader):
    """A loader that keeps the whole dataset on the device, as uint8."""

    def __init__(self, hparams: DatasetHparams, folder: Path, config: LoaderConfig) -> None:
        """Load a prepared dataset from the folder of all datasets."""
        super().__init__(hparams, config)
        images, labels = load_split(hparams.dataset_name, "train", folder)
        held_out = self._hparams.validation_examples
        train_images, train_labels = changed_examples(images[held_out:], labels[held_out:], self._hparams)
        self._train_labels = train_labels.to(self._device)
        self._stored = self._hparams.augmentation.stored(train_images.to(self._device), config.memory_format)
        self._validation, self._validation_labels = self._unaugmented(images[:held_out], labels[:held_out])
        self._test, self._test_labels = self._unaugmented(*load_split(hparams.dataset_name, "test", folder))

    def _unaugmented(self, images: Tensor, labels: Tensor) -> Batch:
        images, labels = changed_test_examples(images, labels, self._hparams)
        return transforms.in_format(images.to(self._device), self._config.memory_format), labels.to(self._device)

    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        batch = self._hparams.augmentation.draw(self.num_train, self._stored, self._hparams, stream)
        order = order.to(self._device)
        return (checked_images(batch, self._hparams)(order[part], part) for part in slices)

    def _train_images(self, numbers: Tensor) -> Tensor:
        return transforms.take(self._stored, numbers.to(self._device))

    def _validation_images(self, batches: list[slice]) -> Iterator[Tensor]:
        return (self._validation[part] for part in batches)

    def _test_images(self, batches: list[slice]) -> Iterator[Tensor]:
        return (self._test[part] for part in batches)
