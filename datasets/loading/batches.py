"""The base class of loaders.

The order and the augmentation of an epoch are functions of (key, epoch) alone: a loader keeps no state between batches,
so training can start at any batch of any epoch, and any number of processes train on slices of the same batches.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from datasets.augmentations import transforms
from datasets.hparams import DatasetHparams
from foundations.examples import Rows, choose_examples, draw_examples
from foundations.random_streams import generator

Batch = tuple[Tensor, Tensor]
"""Images float32 (B, C, H, W), normalized; labels int64 (B,)."""
Part = Literal["train", "validation", "test"]
"""The training examples, those that are held out of the training set, and the test examples."""
_KEPT_BYTES = 1 << 30
"""The most bytes of chosen examples that are kept in memory."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """The destination of batches (device, memory format, rank), and the keys of their random streams."""

    device: torch.device | str = "cpu"
    memory_format: torch.memory_format = torch.contiguous_format
    order_key: int | str = 0
    """The key of the random order, together with the epoch."""
    augmentation_key: int | str = 0
    """The key of the augmentation, together with the epoch."""
    rank: int = 0
    world_size: int = 1
    """Of each training batch, this process gets slice `rank` of `world_size` nearly equal ones. (It may be empty, where
    the last batch of an epoch is smaller than the number of processes.) Of test and validation batches, it gets every
    `world_size`-th whole one, from number `rank` on: each example is in one process."""


class Loader(ABC):
    """Makes the batches of a dataset. Subclasses provide the images."""

    _labels: dict[Part, Tensor]
    """Set by subclasses: labels after all changes, int64 (N,), on the device."""

    def __init__(self, hparams: DatasetHparams, config: LoaderConfig) -> None:
        """Keep the normalized hyperparameters and the configuration."""
        self._hparams = hparams.normalized(hparams.iterations_per_epoch)
        self._config = config
        self._device = torch.device(config.device)
        self._scale, self._shift = transforms.normalization(
            *self._hparams.constants, hparams.input_shape[1:], self._device, config.memory_format
        )

    @property
    def num_train(self) -> int:
        """Training examples in an epoch, after holding out and subsampling."""
        return len(self._labels["train"])

    @property
    def num_test(self) -> int:
        """Test examples."""
        return len(self._labels["test"])

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield this process's slices of the batches of an epoch, from batch `first` on.

        They are the same as if the batches before had been skipped.
        """
        order = torch.randperm(self.num_train, generator=generator("data order", self._config.order_key, epoch))
        stream = generator("augmentation", self._config.augmentation_key, epoch)
        slices = [self._own_slice(batch) for batch in self._batches(self.num_train, first)]
        chosen = order.to(self._device)
        for part, images in zip(slices, self._augmented(order, slices, stream), strict=True):
            yield self._finished(images, blurred=True), self._labels["train"].index_select(0, chosen[part])

    def batch_size_of(self, number: int) -> int:
        """Return the number of examples in a training batch of an epoch, over all processes. number: from 0."""
        return min(self._hparams.batch_size, self.num_train - number * self._hparams.batch_size)

    def reordered(self, key: int | str) -> Self:
        """Return a loader of the same data with another key of order and augmentation, and with whole training batches.

        It shares everything else, so use one of the two at a time.
        """
        return self.with_config(replace(self._config, order_key=key, augmentation_key=key, rank=0, world_size=1))

    def with_config(self, config: LoaderConfig) -> Self:
        """Return a loader of the same data, in the same place and layout, with other random streams or another rank."""
        other = copy.copy(self)
        other._config = config
        return other

    def plain_train_batches(self) -> Iterator[Batch]:
        """Yield this process's part of the training set, not augmented: in the set's order, as `test_batches` does."""
        return self._in_order("train")

    def test_batches(self) -> Iterator[Batch]:
        """Yield this process's part of the test set, not augmented: in the set's order, in batches of training size."""
        return self._in_order("test")

    def validation_batches(self) -> Iterator[Batch]:
        """Yield this process's part of the training examples that are held out, as `test_batches` does."""
        return self._in_order("validation")

    def _in_order(self, which: Part) -> Iterator[Batch]:
        batches = list(self._batches(len(self._labels[which])))[self._config.rank :: self._config.world_size]
        for part, images in zip(batches, self._unaugmented(which, batches), strict=True):
            yield self._finished(images, blurred=which == "train"), self._labels[which][part]

    def examples(self, per_class: int, seed: int) -> Rows:
        """Return exactly `per_class` training examples of each class, not augmented, chosen and ordered by a seed.

        They are the first of each class in a random order of the training set, and keep that order. Every process
        gets all of them. Images are normalized when they are read; before, they are kept as bytes, unless these would
        be more than 1 GiB: then they are fetched (and decoded) each time. Raises: UsageError where a class has fewer.
        """
        source, num_classes = f"the training set of '{self._hparams.dataset_name}'", self._hparams.num_classes
        train_labels = self._labels["train"]
        chosen = choose_examples(train_labels, per_class, seed, num_classes=num_classes, source=source)
        labels = train_labels[chosen.to(self._device)]
        if len(chosen) * math.prod(self._hparams.input_shape) <= _KEPT_BYTES:
            return self._rows(self._train_images(chosen), labels)
        return Rows(labels, lambda rows: self._finished(self._train_images(chosen[rows]), blurred=True))

    def drawn_examples(self, per_class: int, seed: int) -> Callable[[int], Rows]:
        """Return a function from the number of a pass to its examples: drawn once, augmented again in each pass.

        It draws `per_class` times the number of classes from the training set, whatever their classes. Every process
        gets all of them, kept as bytes and normalized when they are read. Raises: UsageError if there are fewer.
        """
        count, source = per_class * self._hparams.num_classes, f" in the training set of '{self._hparams.dataset_name}'"
        order_of = draw_examples(self.num_train, count, seed, source=source)

        def examples(number: int) -> Rows:
            order, stream = order_of(number), generator("scoring augmentation", seed, number)
            images = torch.cat(list(self._augmented(order, list(self._batches(count)), stream)))
            return self._rows(images, self._labels["train"][order.to(self._device)])

        return examples

    def _rows(self, images: Tensor, labels: Tensor) -> Rows:
        return Rows(labels, lambda rows: self._finished(images[rows], blurred=True))

    @abstractmethod
    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        """Yield augmented training images, uint8 (B, C, H, W) on the device, for slices of an order.

        order: int64 (N,) on the CPU, the numbers of training examples. stream: gives the random numbers of the epoch.
        """

    @abstractmethod
    def _train_images(self, numbers: Tensor) -> Tensor:
        """Return training images by their numbers, not augmented."""

    @abstractmethod
    def _unaugmented(self, which: Part, batches: list[slice]) -> Iterator[Tensor]:
        """Yield batches of the images of one part, not augmented."""

    def _batches(self, count: int, first: int = 0) -> Iterator[slice]:
        for start in range(first * self._hparams.batch_size, count, self._hparams.batch_size):
            yield slice(start, min(start + self._hparams.batch_size, count))

    def _own_slice(self, batch: slice) -> slice:
        """Return this process's slice of a batch."""
        rank, world_size, size = self._config.rank, self._config.world_size, batch.stop - batch.start
        return slice(batch.start + size * rank // world_size, batch.start + size * (rank + 1) // world_size)

    def _finished(self, images: Tensor, *, blurred: bool) -> Tensor:
        if blurred and self._hparams.blur_factor is not None:
            images = transforms.blur(images, self._hparams.blur_factor)
        images = images.contiguous(memory_format=self._config.memory_format)
        return transforms.normalize(images, self._scale, self._shift)
