"""No augmentation: training images as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import WHOLE, Augmentation, MemoryBatches, StreamedBatches

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasets.hparams import DatasetHparams


class NoAugmentation(Augmentation):
    """Training images stay as they are."""

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        """Draw nothing."""
        from datasets.augmentations.transforms import take

        return lambda numbers, _: take(stored, numbers)

    def draw_streamed(self, count: int, device: torch.device, stream: torch.Generator) -> StreamedBatches:
        """Draw nothing."""
        import torch

        return torch.full((count,), WHOLE), lambda images, _: images


NONE = NoAugmentation(spelling="none")
