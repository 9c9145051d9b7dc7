"""The base class of augmentations: random numbers of an epoch, and the change of its batches by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.registry import Registered

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasets.hparams import DatasetHparams

WHOLE = -1
"""Replaces a seed: the image is not augmented but resized and its middle cut out, as for testing."""

MemoryBatches = Callable[["Tensor", slice], "Tensor"]
"""(numbers, positions) -> images uint8 (B, C, H, W) on the device.

numbers: int64 (B,), of the wanted images. positions: their places in the order of the epoch.
"""
StreamedBatches = tuple["Tensor", Callable[["Tensor", slice], "Tensor"]]
"""The seed of each image for `Augmentation.cut`, or WHOLE, int64 (N,) on the CPU in the order of the epoch; and a
function of batches after that, (images uint8 (B, 3, H, W) on the device, positions) -> images.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Augmentation(Registered):
    """A way to vary training images.

    Random numbers are drawn for a whole epoch at once, by position in its order, so that batches are the same wherever
    in the epoch training starts and however many processes share it.
    """

    used_hparams: tuple[str, ...] = ()
    """The hyperparameters that this augmentation uses, among those of `DatasetHparams` that only some use."""

    channels: int | tuple[int, ...] | None = None
    """The required number of channels of images, or the possible ones; None for any number."""

    def takes(self, channels: int) -> bool:
        """Return whether it works on images of so many channels."""
        return self.channels is None or channels in self._channels

    @property
    def channels_in_words(self) -> str:
        """The numbers of channels that it takes."""
        return " or ".join(map(str, self._channels))

    @property
    def _channels(self) -> tuple[int | None, ...]:
        return self.channels if isinstance(self.channels, tuple) else (self.channels,)

    @property
    def can_stream(self) -> bool:
        """Whether it also works on images that are decoded when they are needed."""
        return type(self).draw_streamed is not Augmentation.draw_streamed

    def stored(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        """Return the images to keep in memory: the training images, uint8 (N, C, H, W), and perhaps others after them.

        On CPUs, returns the images as they are: they are mapped from a file, so that all jobs of a machine share them.
        """
        from datasets.augmentations.transforms import in_format

        return images if images.device.type == "cpu" else in_format(images, memory_format)

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        """Draw the random numbers of an epoch of `count` images in memory; return the function that makes its batches.

        stored: the result of the method `stored`. stream: a generator on the CPU.
        """
        raise NotImplementedError

    def draw_streamed(self, count: int, device: torch.device, stream: torch.Generator) -> StreamedBatches:
        """Draw the random numbers of an epoch of `count` images that are decoded when they are needed."""
        raise NotImplementedError

    def draw_streamed_by(
        self, count: int, device: torch.device, hparams: DatasetHparams, stream: torch.Generator
    ) -> StreamedBatches:
        """Do as `draw_streamed`, by the hyperparameters. Augmentations whose drawing depends on them override it."""
        return self.draw_streamed(count, device, stream)

    def cut(
        self, images: Sequence[Tensor], size: tuple[int, int], seeds: Sequence[int], hparams: DatasetHparams
    ) -> list[Tensor]:
        """Return decoded images, uint8 (3, H, W), each cut by its seed and resized. Workers call it."""
        raise NotImplementedError
