"""Loaders of examples that each have their inputs and a target, and come one by one in a random order."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from datasets.augmentations import transforms
from datasets.hparams import DatasetHparams
from datasets.loading.batches import Batch, Loader, LoaderConfig, Part
from foundations.examples import Rows, choose_examples
from foundations.random_streams import generator

_KEPT_BYTES = 1 << 30
"""The most bytes of chosen examples that are kept in memory."""


class ExampleLoader(Loader):
    """A loader of numbered examples. Subclasses provide the inputs."""

    _labels: dict[Part, Tensor]
    """Set by subclasses: targets after all changes, (N, ...), on the device."""

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
        batches = list(self._batches(self.num_train, first))
        slices = [self._own_slice(batch) for batch in batches]
        mixing = self._config.mixing
        if mixing is None:
            yield from self._examples_of(order, slices, stream)
            return
        height, width = self._hparams.input_shape[1:]
        per_epoch, key = self._hparams.iterations_per_epoch, self._config.augmentation_key
        mixes = mixing.drawn(per_epoch, (height, width), key, epoch)[first:]
        examples = self._examples_of(order, mixing.slices(batches, slices), stream)
        yield from mixing.mixed(examples, batches, slices, mixes)

    def _examples_of(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Batch]:
        """Yield the examples at some slices of an order; see `_augmented`."""
        chosen = order.to(self._device)
        for part, inputs in zip(slices, self._augmented(order, slices, stream), strict=True):
            yield self._finished(inputs, is_train=True), self._labels["train"].index_select(0, chosen[part])

    def _in_order(self, which: Part) -> Iterator[Batch]:
        batches = list(self._batches(len(self._labels[which])))[self._config.rank :: self._config.world_size]
        for part, inputs in zip(batches, self._unaugmented(which, batches), strict=True):
            yield self._finished(inputs, is_train=which == "train"), self._labels[which][part]

    def examples(self, per_class: int, seed: int) -> Rows:
        """Return examples as `Loader.examples` does.

        Of each class, they are the first in a random order of the training set, and keep that order. They are finished
        when they are read; before, they are kept as stored, unless these would be more than 1 GiB: then they are
        fetched (and decoded) each time.
        """
        if self._hparams.task.has_classes:
            source = f"the training set of '{self._hparams.dataset_name}'"
            labels, num_classes = self._labels["train"], self._hparams.num_classes
            chosen = choose_examples(labels, per_class, seed, num_classes=num_classes, source=source)
        else:
            chosen = self._scoring_order(per_class, seed)(0)
        return self._rows_of(chosen)

    def drawn_examples(self, per_class: int, seed: int, batch: int | None = None) -> Callable[[int], Rows]:
        """Return examples as `Loader.drawn_examples` does, kept as stored and finished when they are read."""
        order_of = self._scoring_order(per_class, seed, batch)

        def examples(number: int) -> Rows:
            order, stream = order_of(number), generator("scoring augmentation", seed, number)
            inputs = torch.cat(list(self._augmented(order, list(self._batches(len(order))), stream)))
            return self._rows(inputs, self._train_targets(order))

        return examples

    def _rows_of(self, chosen: Tensor) -> Rows:
        """Return some training examples, not augmented. chosen: int64 (n,) on the CPU, their numbers."""
        targets = self._train_targets(chosen)
        if len(chosen) * math.prod(self._hparams.input_shape) <= _KEPT_BYTES:
            return self._rows(self._train_inputs(chosen), targets)
        return Rows(targets, lambda rows: self._finished(self._train_inputs(chosen[rows]), is_train=True))

    def _rows(self, inputs: Tensor, targets: Tensor) -> Rows:
        return Rows(targets, lambda rows: self._finished(inputs[rows], is_train=True))

    def _train_targets(self, numbers: Tensor) -> Tensor:
        """Return targets of training examples by their numbers."""
        return self._labels["train"][numbers.to(self._device)]

    @abstractmethod
    def _augmented(self, order: Tensor, slices: list[slice], stream: torch.Generator) -> Iterator[Tensor]:
        """Yield training inputs as stored, augmented, (B, *shape) on the device, for slices of an order.

        order: int64 (N,) on the CPU, the numbers of training examples. stream: gives the random numbers of the epoch.
        """

    @abstractmethod
    def _train_inputs(self, numbers: Tensor) -> Tensor:
        """Return training inputs as stored, by their numbers, not augmented."""

    @abstractmethod
    def _unaugmented(self, which: Part, batches: list[slice]) -> Iterator[Tensor]:
        """Yield batches of the inputs of one part as stored, not augmented."""

    @abstractmethod
    def _finished(self, inputs: Tensor, *, is_train: bool) -> Tensor:
        """Return a batch of stored inputs as networks get it."""


class ImageLoader(ExampleLoader):
    """A loader of images. Subclasses provide them as uint8 (B, C, H, W)."""

    def __init__(self, hparams: DatasetHparams, config: LoaderConfig) -> None:
        """Prepare the constants of normalization."""
        super().__init__(hparams, config)
        height, width = hparams.input_shape[1:]
        self._scale, self._shift = transforms.normalization(
            *self._hparams.constants, (height, width), self._device, config.memory_format
        )

    def _finished(self, inputs: Tensor, *, is_train: bool) -> Tensor:
        if is_train and self._hparams.blur_factor is not None:
            inputs = transforms.blur(inputs, self._hparams.blur_factor)
        inputs = inputs.contiguous(memory_format=self._config.memory_format)
        return transforms.normalize(inputs, self._scale, self._shift)
