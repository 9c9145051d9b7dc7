"""Synaptic-Flow's augmentation of ImageNet: random resized crop, greyscale at times, colour jitter, mirroring.

One image in five becomes grey. Brightness, contrast and saturation are multiplied by 0.6 to 1.4, and the hue is turned
by up to 0.4 of the circle, in a random order for each image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import MemoryBatches, StreamedBatches
from datasets.augmentations.resized_crop_flip import ResizedCropFlip

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasets.hparams import DatasetHparams

_GREY, _JITTER = 0.2, 0.4


class ResizedCropJitterFlip(ResizedCropFlip):
    """`resized_crop_flip`, with greyscale and colour jitter."""

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        """Draw the part, the side and the colours of each image."""
        cropped = super().draw(count, stored, hparams, stream)
        recolored = _draw_colors(count, stored.device, stream)
        return lambda numbers, part: recolored(cropped(numbers, part), part)

    def draw_streamed(self, count: int, device: torch.device, stream: torch.Generator) -> StreamedBatches:
        """Draw the seed of each image's part, its side and its colours."""
        seeds, flipped = super().draw_streamed(count, device, stream)
        recolored = _draw_colors(count, device, stream)
        return seeds, lambda images, part: recolored(flipped(images, part), part)


def _draw_colors(count: int, device: torch.device, stream: torch.Generator) -> Callable[[Tensor, slice], Tensor]:
    """Draw the colours of an epoch; return the function that applies them to a batch (it commutes with mirroring)."""
    import torch

    from datasets.augmentations.colors import jittered

    greys = torch.rand(count, generator=stream) < _GREY
    amounts = _JITTER * (2 * torch.rand(count, 4, generator=stream) - 1) + torch.tensor([1.0, 1.0, 1.0, 0.0])
    orders = torch.rand(count, 4, generator=stream).argsort(1).to(torch.uint8)
    greys, amounts, orders = greys.to(device), amounts.to(device), orders.to(device)
    return lambda images, part: jittered(images, greys[part], amounts[part], orders[part])


RESIZED_CROP_JITTER_FLIP = ResizedCropJitterFlip(
    spelling="resized_crop_jitter_flip", used_hparams=("crop_scale", "crop_ratio"), channels=3
)
