"""Batches of a dataset that fits in memory: uint8 tensors on the device, and batched tensor code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from datasets.augmentations import transforms
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Loader, LoaderConfig, Part
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
        stored = self._hparams.augmentation.stored(train_images.to(self._device), config.memory_format)
        self._images: dict[Part, Tensor] = {"train": stored}
        self._labels = {"train": train_labels.to(self._device)}
        parts: dict[Part, tuple[Tensor, Tensor]] = {
            "validation": (images[:held_out], labels[:held_out]),
            "test": load_split(hparams.dataset_name, "test", folder),
        }
        for which, examples in parts.items():
            images, labels = changed_test_examples(*examples, self._hparams)
            self._images[which] = transforms.in_format(images.to(self._device), config.memory_format)
            self._labels[which] = labels.to(self._device)

    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        batch = self._hparams.augmentation.draw(self.num_train, self._images["train"], self._hparams, stream)
        order = order.to(self._device)
        return (checked_images(batch, self._hparams)(order[part], part) for part in slices)

    def _train_images(self, numbers: Tensor) -> Tensor:
        return transforms.take(self._images["train"], numbers.to(self._device))

    def _unaugmented(self, which: Part, batches: list[slice]) -> Iterator[Tensor]:
        return (self._images[which][part] for part in batches)
