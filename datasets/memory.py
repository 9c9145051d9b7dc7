"""Batches of a data set that fits in memory: uint8 tensors on the device, and batched tensor code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from datasets import augment
from datasets.batches import Batch, LoaderConfig, Loader
from datasets.changes import changed_examples, changed_test_examples
from datasets.hparams import DatasetHparams
from datasets.prepared import load_split

_PADDING = 4


class MemoryLoader(Loader):
    """A loader that keeps the whole data set on the device, as uint8."""

    def __init__(self, hparams: DatasetHparams, folder: Path, feed: LoaderConfig) -> None:
        """Load a prepared data set from the folder of all data sets."""
        super().__init__(hparams, feed)
        images, labels = load_split(hparams.dataset_name, "train", folder)
        held_out = self._hparams.validation_examples
        train_images, train_labels = changed_examples(images[held_out:], labels[held_out:], self._hparams)
        self._train_labels = train_labels.to(self._device)
        if self._hparams.augmentation == "pad4_crop_flip":
            # More memory, but batches in two thirds of the time.
            self._both_ways = augment.with_mirrored(train_images.to(self._device), feed.memory_format)
            self._train_images = self._both_ways[: len(train_images)]
        else:
            self._train_images = augment.in_format(train_images.to(self._device), feed.memory_format)
        self._validation = self._placed(changed_test_examples(images[:held_out], labels[:held_out], self._hparams))
        self._test = self._placed(
            changed_test_examples(*load_split(hparams.dataset_name, "test", folder), self._hparams)
        )

    @property
    def num_train(self) -> int:
        """Training examples in an epoch, after holding out and subsampling."""
        return len(self._train_labels)

    @property
    def num_test(self) -> int:
        """Test examples."""
        return len(self._test[1])

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `first` on: the same as if those before had been skipped."""
        order = self._order(epoch).to(self._device)
        augmented = self._augmentation(epoch)
        for part in self._parts(self.num_train, first):
            chosen = order[part]
            yield self._finished(augmented(chosen, part), blurred=True), self._train_labels.index_select(0, chosen)

    def test_batches(self) -> Iterator[Batch]:
        """Yield the test set in its order, in batches of the training batch size."""
        return self._in_order(*self._test)

    def validation_batches(self) -> Iterator[Batch]:
        """Yield the held out training examples in their order, as `test_batches` does."""
        return self._in_order(*self._validation)

    def examples(self, per_class: int, seed: int) -> Batch:
        """Return exactly `per_class` training examples of each class; every process gets all of them."""
        chosen = self._scoring_examples(self._train_labels, per_class, seed).to(self._device)
        return self._finished(augment.take(self._train_images, chosen), blurred=True), self._train_labels[chosen]

    def _placed(self, examples: Batch) -> Batch:
        images, labels = examples
        return augment.in_format(images.to(self._device), self._feed.memory_format), labels.to(self._device)

    def _in_order(self, images: Tensor, labels: Tensor) -> Iterator[Batch]:
        for part in self._parts(len(labels)):
            yield self._finished(images[part], blurred=False), labels[part]

    def _augmentation(self, epoch: int) -> Callable[[Tensor, slice], Tensor]:
        """Draw the random numbers of an epoch, by position in its order.

        Return what gives the augmented images of given numbers, int64 (B,), at given positions.
        """
        count, kind = self.num_train, self._hparams.augmentation
        if kind == "none":
            return lambda chosen, _: augment.take(self._train_images, chosen)
        stream = self._augmentation_stream(epoch)
        if kind == "pad4_crop_flip":
            offsets = torch.randint(0, 2 * _PADDING + 1, (count, 2), generator=stream)
            flips = torch.randint(0, 2, (count,), generator=stream).bool()
            if self._hparams.augmentation_order == "crop_flip":
                offsets = augment.mirrored(offsets, flips, _PADDING)
            offsets, mirrored = offsets.to(self._device), (count * flips).to(self._device)
            return lambda chosen, part: augment.pad_crop(
                augment.take(self._both_ways, chosen + mirrored[part]), offsets[part], _PADDING
            )
        draws = torch.rand(count, augment.BOX_DRAWS, dtype=torch.float64, generator=stream)
        flips = torch.randint(0, 2, (count,), generator=stream).bool().to(self._device)
        height, width = self._hparams.input_shape[1:]
        heights, widths = torch.full((count,), height), torch.full((count,), width)
        scale, ratio = self._hparams.crop_scale, self._hparams.crop_ratio
        boxes = augment.random_boxes(draws, heights, widths, scale, ratio).to(self._device)
        return lambda chosen, part: augment.flip(
            augment.resized_crop(augment.take(self._train_images, chosen), boxes[part], (height, width)), flips[part]
        )
