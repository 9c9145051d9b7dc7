"""The base class of loaders.

The order and the augmentation of an epoch are functions of (key, epoch) alone: a loader keeps no state between batches,
so training can start at any batch of any epoch, and any number of processes train on slices of the same batches.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from datasets.hparams import DatasetHparams
from datasets.loading.mixing import Mixing
from foundations.examples import Rows, draw_examples

Batch = tuple[Tensor, Tensor]
"""Inputs: float32 (B, *shape), normalized, or tokens int64 (B, T). Targets, by the task: classes int64 (B,), labels or
real values float32 (B, K), or next tokens int64 (B, T), -100 where none counts."""
Part = Literal["train", "validation", "test"]
"""The training examples, those that are held out of the training set, and the test examples."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """The destination of batches (device, memory format, rank), and the keys of their random streams."""

    device: torch.device | str = "cpu"
    memory_format: torch.memory_format = torch.contiguous_format
    order_key: int | str = 0
    """The key of the random order, together with the epoch."""
    augmentation_key: int | str = 0
    """The key of the augmentation, together with the epoch."""
    mixing: Mixing | None = None
    """Mixup and cutmix of training batches: their targets are then float (B, classes)."""
    rank: int = 0
    world_size: int = 1
    """Of each training batch, this process gets slice `rank` of `world_size` nearly equal ones. (It may be empty, where
    the last batch of an epoch is smaller than the number of processes.) Of test and validation batches, it gets every
    `world_size`-th whole one, from number `rank` on: each example is in one process."""


class Loader(ABC):
    """Makes the batches of a dataset."""

    token_bytes: Tensor | None = None
    """The length of each token in bytes, int64 (vocabulary,), where the dataset has it."""

    def __init__(self, hparams: DatasetHparams, config: LoaderConfig) -> None:
        """Keep the normalized hyperparameters and the configuration."""
        self._hparams = hparams.normalized(hparams.iterations_per_epoch)
        self._config = config
        self._device = torch.device(config.device)

    @property
    @abstractmethod
    def num_train(self) -> int:
        """Training examples in an epoch, after holding out and subsampling."""

    @property
    @abstractmethod
    def num_test(self) -> int:
        """Test examples."""

    @abstractmethod
    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield this process's slices of the batches of an epoch, from batch `first` on.

        They are the same as if the batches before had been skipped.
        """

    def batch_size_of(self, number: int) -> int:
        """Return the number of examples in a training batch of an epoch, over all processes. number: from 0."""
        return min(self._hparams.batch_size, self.num_train - number * self._hparams.batch_size)

    def reordered(self, key: int | str) -> Self:
        """Return a loader of the same data with another key of order and augmentation, and whole, unmixed batches.

        It shares everything else, so use one of the two at a time.
        """
        return self.with_config(
            replace(self._config, order_key=key, augmentation_key=key, mixing=None, rank=0, world_size=1)
        )

    def with_config(self, config: LoaderConfig) -> Self:
        """Return a loader of the same data, in the same place and layout, with other random streams or another rank."""
        other = copy.copy(self)
        other._config = config
        return other

    def plain_train_batches(self) -> Iterator[Batch]:
        """Yield this process's part of the training set, not augmented: in the set's order, as `test_batches` does."""
        return self._in_order("train")

    def test_batches(self) -> Iterator[Batch]:
        """Yield this process's part of the test set, not augmented: in the set's order.

        Batches are of training size, but those of streams of tokens may be larger.
        """
        return self._in_order("test")

    def validation_batches(self) -> Iterator[Batch]:
        """Yield this process's part of the training examples that are held out, as `test_batches` does."""
        return self._in_order("validation")

    @abstractmethod
    def examples(self, per_class: int, seed: int) -> Rows:
        """Return training examples to score with, not augmented, chosen and ordered by a seed.

        With classes, they are exactly `per_class` of each, in a random order. Without, they are
        `Task.scoring_examples` of the training set. Every process gets all of them. Raises: UsageError where there are
        fewer.
        """

    @abstractmethod
    def drawn_examples(self, per_class: int, seed: int, batch: int | None = None) -> Callable[[int], Rows]:
        """Return a function from the number of a pass to its examples: drawn once, augmented again in each pass.

        It draws `Task.scoring_examples` from the training set, whatever their classes. Every process gets all of them.
        batch: the size of batches that are drawn again in every pass instead, as `draw_examples` does. Raises:
        UsageError if there are fewer.
        """

    @abstractmethod
    def _in_order(self, which: Part) -> Iterator[Batch]:
        """Yield this process's part of the examples of a part, in its order."""

    def _scoring_order(self, per_class: int, seed: int, batch: int | None = None) -> Callable[[int], Tensor]:
        """Return a function from the number of a pass to the numbers of its examples; see `drawn_examples`."""
        task, source = self._hparams.task, f" in the training set of '{self._hparams.dataset_name}'"
        count = task.scoring_examples(per_class, self._hparams.num_classes)
        return draw_examples(self.num_train, count, seed, source=source, batch=batch)

    def _batches(self, count: int, first: int = 0, size: int | None = None) -> Iterator[slice]:
        """Yield the slices of `count` examples in batches of `size`, by default that of training."""
        size = size or self._hparams.batch_size
        for start in range(first * size, count, size):
            yield slice(start, min(start + size, count))

    def _own_slice(self, batch: slice) -> slice:
        """Return this process's slice of a batch."""
        rank, world_size, size = self._config.rank, self._config.world_size, batch.stop - batch.start
        return slice(batch.start + size * rank // world_size, batch.start + size * (rank + 1) // world_size)
