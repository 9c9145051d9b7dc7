"""RandAugment (Cubuk et al. 2020), as torchvision's `transforms.v2.RandAugment` defines it.

Each image gets `randaugment_ops` operations, one after the other, each drawn from fourteen. Their strength is
`randaugment_magnitude`, and operations with a direction go either way. It follows another augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import Augmentation, MemoryBatches, StreamedBatches
from datasets.augmentations.none import NONE
from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP
from datasets.augmentations.resized_crop_flip import RESIZED_CROP_FLIP

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasets.hparams import DatasetHparams


@dataclass(frozen=True, kw_only=True, eq=False)
class RandAugment(Augmentation):
    """RandAugment after another augmentation."""

    first: Augmentation
    """The augmentation that comes before."""

    @property
    def can_stream(self) -> bool:
        """Whether the first augmentation works on images that are decoded when they are needed."""
        return self.first.can_stream

    def stored(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        """Return the images to keep in memory."""
        return self.first.stored(images, memory_format)

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        """Draw the first augmentation, then the operations of each image and their directions."""
        before = self.first.draw(count, stored, hparams, stream)
        operated = _draw_operations(count, hparams, stream)
        return lambda numbers, part: operated(before(numbers, part), part)

    def draw_streamed_by(
        self, count: int, device: torch.device, hparams: DatasetHparams, stream: torch.Generator
    ) -> StreamedBatches:
        """Draw the first augmentation, then the operations of each image and their directions."""
        seeds, before = self.first.draw_streamed_by(count, device, hparams, stream)
        operated = _draw_operations(count, hparams, stream)
        return seeds, lambda images, part: operated(before(images, part), part)

    def cut(
        self, images: Sequence[Tensor], size: tuple[int, int], seeds: Sequence[int], hparams: DatasetHparams
    ) -> list[Tensor]:
        """Cut decoded images as the first augmentation does."""
        return self.first.cut(images, size, seeds, hparams)


def _draw_operations(count: int, hparams: DatasetHparams, stream: torch.Generator) -> Callable[[Tensor, slice], Tensor]:
    """Draw the operations of an epoch; return the function that applies them to a batch."""
    import torch

    from datasets.augmentations.operations import OPERATIONS, operated

    shape = (count, hparams.randaugment_ops)
    chosen = torch.randint(len(OPERATIONS), shape, generator=stream).to(torch.uint8)
    turned = torch.randint(2, shape, generator=stream).bool()
    magnitude = hparams.randaugment_magnitude
    return lambda images, part: operated(images, chosen[part], turned[part], magnitude)


def _after(first: Augmentation, spelling: str) -> RandAugment:
    used = (*first.used_hparams, "randaugment_ops", "randaugment_magnitude")
    return RandAugment(spelling=spelling, first=first, used_hparams=used, channels=(1, 3))


RANDAUGMENT = _after(NONE, "randaugment")
PAD4_CROP_FLIP_RANDAUGMENT = _after(PAD4_CROP_FLIP, "pad4_crop_flip_randaugment")
RESIZED_CROP_FLIP_RANDAUGMENT = _after(RESIZED_CROP_FLIP, "resized_crop_flip_randaugment")
