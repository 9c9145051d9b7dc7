"""Batches: what a loader is, and what all loaders have in common.

The order and the augmentation of an epoch are functions of (key, epoch) alone: a loader has no state that moves, so
training can start at any batch of any epoch, and any number of processes see slices of the same batches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets import augment
from datasets.hparams import DatasetHparams
from foundations.examples import choose_examples
from foundations.random_streams import generator

Batch = tuple[Tensor, Tensor]
"""Images float32 (B, C, H, W), normalized; labels int64 (B,)."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """Whom a loader feeds: where batches go, what names their random streams, and which part of each is wanted."""

    device: torch.device | str = "cpu"
    memory_format: torch.memory_format = torch.contiguous_format
    order_key: int | str = 0
    """Names the random order, with the epoch."""
    augmentation_key: int | str = 0
    """Names the augmentation, with the epoch."""
    rank: int = 0
    world_size: int = 1
    """Of each batch, this process gets slice `rank` of `world_size` nearly equal ones. (It may be empty, where the last
    batch of an epoch is smaller than the number of processes.)"""


class Loader(ABC):
    """Where batches come from."""

    def __init__(self, hparams: DatasetHparams, feed: LoaderConfig) -> None:
        """Keep what the hyperparameters and the feed say."""
        self._hparams = hparams.normalized(hparams.iterations_per_epoch)
        self._feed = feed
        self._device = torch.device(feed.device)
        self._scale, self._shift = augment.normalization(
            *self._hparams.constants, hparams.input_shape[1:], self._device, feed.memory_format
        )

    @property
    @abstractmethod
    def num_train(self) -> int:
        """Training examples in an epoch."""

    @property
    @abstractmethod
    def num_test(self) -> int:
        """Test examples."""

    @abstractmethod
    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `first` on."""

    @abstractmethod
    def test_batches(self) -> Iterator[Batch]:
        """Yield the test set in its order, not augmented."""

    @abstractmethod
    def validation_batches(self) -> Iterator[Batch]:
        """Yield the held out training examples in their order, not augmented."""

    @abstractmethod
    def examples(self, per_class: int, seed: int) -> Batch:
        """Return exactly `per_class` training examples of each class, not augmented, chosen and ordered by a seed.

        They are the first of each class in a random order of the training set, and stand in that order. Every process
        gets all of them. Raises: UsageError where a class has fewer.
        """

    def _order(self, epoch: int) -> Tensor:
        return torch.randperm(self.num_train, generator=generator("data order", self._feed.order_key, epoch))

    def _augmentation_stream(self, epoch: int) -> torch.Generator:
        return generator("augmentation", self._feed.augmentation_key, epoch)

    def _parts(self, count: int, first: int = 0) -> Iterator[slice]:
        """Yield this process's part of each batch of `count` examples, from batch `first` on."""
        rank, world_size, batch_size = self._feed.rank, self._feed.world_size, self._hparams.batch_size
        for begin in range(first * batch_size, count, batch_size):
            size = min(batch_size, count - begin)
            yield slice(begin + size * rank // world_size, begin + size * (rank + 1) // world_size)

    def _finished(self, images: Tensor, *, blurred: bool) -> Tensor:
        if blurred and self._hparams.blur_factor is not None:
            images = augment.blur(images, self._hparams.blur_factor)
        return augment.normalize(images.contiguous(memory_format=self._feed.memory_format), self._scale, self._shift)

    def _scoring_examples(self, labels: Tensor, per_class: int, seed: int) -> Tensor:
        source = f"the training set of '{self._hparams.dataset_name}'"
        return choose_examples(labels, per_class, seed, num_classes=self._hparams.num_classes, source=source)
