"""Batches of a data set that fits in memory: uint8 tensors on the device, and batched tensor code.

The order and the augmentation of an epoch are functions of (key, epoch) alone: a loader has no state that moves, so
training can start at any batch of any epoch, and any number of processes see slices of the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from datasets import augment
from datasets.hparams import ROTATIONS, DatasetHparams
from datasets.prepared import load_split
from foundations.examples import choose_examples
from foundations.random_streams import generator

Batch = tuple[Tensor, Tensor]
"""Images float32 (B, C, H, W), normalized; labels int64 (B,)."""
_PADDING = 4


class Loader(Protocol):
    """Where batches come from."""

    @property
    def num_train(self) -> int:
        """Training examples in an epoch."""

    @property
    def num_test(self) -> int:
        """Test examples."""

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `first` on."""

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test set in its order, not augmented."""

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the held out training examples in their order, not augmented."""

    def examples(self, per_class: int, seed: int) -> Batch:
        """Return training examples for scoring, exactly `per_class` of each class, not augmented."""


class MemoryLoader:
    """A loader that keeps the whole data set on the device, as uint8."""

    def __init__(
        self,
        hparams: DatasetHparams,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        memory_format: torch.memory_format = torch.contiguous_format,
        order_key: int | str = 0,
        augmentation_key: int | str = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Load a prepared data set.

        folder: that of all data sets. order_key, augmentation_key: what names the random streams, with the epoch.
        rank, world_size: of each batch, this process gets slice `rank` of `world_size` nearly equal ones (an empty one,
        where the last batch of an epoch is smaller than the number of processes).
        """
        self._hparams = hparams.normalized(hparams.iterations_per_epoch)
        self._device = torch.device(device)
        self._memory_format = memory_format
        self._order_key, self._augmentation_key = order_key, augmentation_key
        self._rank, self._world_size = rank, world_size
        spec = hparams.spec
        self._scale, self._shift = augment.normalization(
            *self._hparams.constants, hparams.input_shape[1:], self._device, memory_format
        )
        images, labels = load_split(spec.name, "train", folder)
        held_out = self._hparams.validation_examples
        self._train_images, self._train_labels = self._placed(
            changed_examples(images[held_out:], labels[held_out:], self._hparams)
        )
        self._validation = self._placed(changed_test_examples(images[:held_out], labels[:held_out], self._hparams))
        self._test = self._placed(changed_test_examples(*load_split(spec.name, "test", folder), self._hparams))

    @property
    def num_train(self) -> int:
        """Training examples in an epoch, after subsampling."""
        return len(self._train_labels)

    @property
    def num_test(self) -> int:
        """Test examples."""
        return len(self._test[1])

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `first` on: the same as if those before had been skipped."""
        count = self.num_train
        order = torch.randperm(count, generator=generator("data order", self._order_key, epoch)).to(self._device)
        augmented = self._augmentation(epoch)
        for begin in range(first * self._hparams.batch_size, count, self._hparams.batch_size):
            part = self._slice(begin, count)
            chosen = order[part]
            images = augmented(augment.take(self._train_images, chosen), part)
            yield self._finished(images, blurred=True), self._train_labels.index_select(0, chosen)

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test set in its order, in batches of the training batch size."""
        return self._in_order(*self._test)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the held out training examples in their order, as `test_batches` does."""
        return self._in_order(*self._validation)

    def examples(self, per_class: int, seed: int) -> Batch:
        """Return exactly `per_class` training examples of each class, not augmented, chosen and ordered by a seed.

        They are the first of each class in a random order of the training set, and stand in that order. Every process
        gets all of them. Raises: UsageError where a class has fewer.
        """
        chosen = choose_scoring_examples(self._train_labels, per_class, seed, self._hparams).to(self._device)
        return self._finished(augment.take(self._train_images, chosen), blurred=True), self._train_labels[chosen]

    def _placed(self, examples: Batch) -> Batch:
        images, labels = examples
        return augment.in_format(images.to(self._device), self._memory_format), labels.to(self._device)

    def _in_order(self, images: Tensor, labels: Tensor) -> Iterator[Batch]:
        for begin in range(0, len(labels), self._hparams.batch_size):
            part = self._slice(begin, len(labels))
            yield self._finished(images[part], blurred=False), labels[part]

    def _augmentation(self, epoch: int) -> Callable[[Tensor, slice], Tensor]:
        """Draw the random numbers of an epoch, by position in its order, and return what they do to a part of it."""
        count, kind = self.num_train, self._hparams.augmentation
        if kind == "none":
            return lambda images, _: images
        stream = generator("augmentation", self._augmentation_key, epoch)
        if kind == "pad4_crop_flip":
            offsets = torch.randint(0, 2 * _PADDING + 1, (count, 2), generator=stream)
            flips = torch.randint(0, 2, (count,), generator=stream).bool()
            if self._hparams.augmentation_order == "flip_crop":
                offsets = augment.mirrored(offsets, flips, _PADDING)
            offsets, flips = offsets.to(self._device), flips.to(self._device)
            return lambda images, part: augment.flip(augment.pad_crop(images, offsets[part], _PADDING), flips[part])
        draws = torch.rand(count, augment.BOX_DRAWS, dtype=torch.float64, generator=stream)
        flips = torch.randint(0, 2, (count,), generator=stream).bool().to(self._device)
        height, width = self._hparams.input_shape[1:]
        heights, widths = torch.full((count,), height), torch.full((count,), width)
        scale, ratio = self._hparams.crop_scale, self._hparams.crop_ratio
        boxes = augment.random_boxes(draws, heights, widths, scale, ratio).to(self._device)
        return lambda images, part: augment.flip(
            augment.resized_crop(images, boxes[part], (height, width)), flips[part]
        )

    def _slice(self, begin: int, count: int) -> slice:
        return slice_of_batch(begin, count, self._hparams.batch_size, self._rank, self._world_size)

    def _finished(self, images: Tensor, *, blurred: bool) -> Tensor:
        if blurred and self._hparams.blur_factor is not None:
            images = augment.blur(images, self._hparams.blur_factor)
        return augment.normalize(images.contiguous(memory_format=self._memory_format), self._scale, self._shift)


def open_loader(
    hparams: DatasetHparams,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
    order_key: int | str = 0,
    augmentation_key: int | str = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
) -> Loader:
    """Return the loader that suits a data set.

    workers: processes that decode image files, for data sets that are not in memory; by default one for each core.
    The other arguments are those of `MemoryLoader`.
    """
    if hparams.spec.in_memory:
        return MemoryLoader(
            hparams,
            folder,
            device=device,
            memory_format=memory_format,
            order_key=order_key,
            augmentation_key=augmentation_key,
            rank=rank,
            world_size=world_size,
        )
    from datasets.streaming import StreamingLoader

    return StreamingLoader(
        hparams,
        folder,
        device=device,
        memory_format=memory_format,
        order_key=order_key,
        augmentation_key=augmentation_key,
        rank=rank,
        world_size=world_size,
        workers=workers,
    )


def slice_of_batch(begin: int, count: int, batch_size: int, rank: int, world_size: int) -> slice:
    """Return a process's part of the batch that begins at an example of an epoch of `count`."""
    size = min(batch_size, count - begin)
    return slice(begin + size * rank // world_size, begin + size * (rank + 1) // world_size)


def choose_scoring_examples(labels: Tensor, per_class: int, seed: int, hparams: DatasetHparams) -> Tensor:
    """Return the numbers of scoring examples of the training set (see `choose_examples`)."""
    source = f"the training set of '{hparams.dataset_name}'"
    return choose_examples(labels, per_class, seed, num_classes=hparams.num_classes, source=source)


def changed_examples(images: Tensor, labels: Tensor, hparams: DatasetHparams) -> Batch:
    """Return the training set that the hyperparameters ask for: random labels, then the subsample, then rotation.

    The draws are OpenLTH's, from numpy's RandomState: with seed s, new labels by s, and by s + 1 the order whose
    beginning gets them and whose beginning is kept. So the examples with random labels are the first to be kept.
    """
    seed = hparams.transformation_seed
    if hparams.random_labels_fraction:
        count = int(np.ceil(hparams.random_labels_fraction * len(labels)))
        drawn = np.random.RandomState(seed).randint(hparams.spec.num_classes, size=count)
        where = np.random.RandomState(seed + 1).permutation(len(labels))[:count]
        labels = labels.clone()
        labels[torch.from_numpy(where)] = torch.from_numpy(drawn).to(labels.dtype)
    if hparams.subsample_fraction is not None:
        count = int(np.ceil(hparams.subsample_fraction * len(labels)))
        kept = torch.from_numpy(np.random.RandomState(seed + 1).permutation(len(labels))[:count])
        images, labels = images[kept], labels[kept]
    return changed_test_examples(images, labels, hparams)


def changed_test_examples(images: Tensor, labels: Tensor, hparams: DatasetHparams) -> Batch:
    """Return the test (or validation) set that the hyperparameters ask for: only rotation changes it."""
    if hparams.unsupervised_labels != "rotation":
        return images, labels
    drawn = np.random.RandomState(hparams.transformation_seed).randint(ROTATIONS, size=len(labels))
    turns = torch.from_numpy(drawn).to(labels.dtype)
    return augment.rotate(images, turns), turns
