"""Batches of images that fit in memory: uint8 tensors on the device, and batched tensor code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from datasets.augmentations import transforms
from datasets.hparams import DatasetHparams
from datasets.loading.batches import LoaderConfig, Part
from datasets.loading.changes import changed_examples, changed_test_examples, prepared_targets
from datasets.loading.examples import ImageLoader
from datasets.prepared import load_tensors
from datasets.split_checks import checked_images


class MemoryLoader(ImageLoader):
    """A loader that keeps the whole dataset on the device, as uint8."""

    def __init__(self, hparams: DatasetHparams, folder: Path, config: LoaderConfig) -> None:
        """Load a prepared dataset from the folder of all datasets."""
        super().__init__(hparams, config)
        images, labels = self._loaded("train", folder)
        held_out = self._hparams.validation_examples
        train_images, train_labels = changed_examples(images[held_out:], labels[held_out:], self._hparams)
        stored = self._hparams.augmentation.stored(train_images.to(self._device), config.memory_format)
        self._images: dict[Part, Tensor] = {"train": stored}
        self._labels = {"train": train_labels.to(self._device)}
        parts: dict[Part, tuple[Tensor, Tensor]] = {
            "validation": (images[:held_out], labels[:held_out]),
            "test": self._loaded("test", folder),
        }
        for which, examples in parts.items():
            images, labels = changed_test_examples(*examples, self._hparams)
            self._images[which] = transforms.in_format(images.to(self._device), config.memory_format)
            self._labels[which] = labels.to(self._device)

    def _loaded(self, split: str, folder: Path) -> tuple[Tensor, Tensor]:
        tensors = load_tensors(self._hparams.spec.spelling, split, folder)
        return tensors["images"], prepared_targets(tensors, self._hparams.spec)

    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        batch = self._hparams.augmentation.draw(self.num_train, self._images["train"], self._hparams, stream)
        order = order.to(self._device)
        return (checked_images(batch, self._hparams)(order[part], part) for part in slices)

    def _train_inputs(self, numbers: Tensor) -> Tensor:
        return transforms.take(self._images["train"], numbers.to(self._device))

    def _unaugmented(self, which: Part, batches: list[slice]) -> Iterator[Tensor]:
        return (self._images[which][part] for part in batches)
