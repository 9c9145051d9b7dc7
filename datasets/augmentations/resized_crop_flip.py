"""The usual augmentation of ImageNet: a random part of the image, resized; mirror every other image.

By default, as in OpenLTH, parts have 0.1 to 1 of the image's area and an aspect of 0.8 to 1.25.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import Augmentation, MemoryBatches, StreamedBatches

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasets.hparams import DatasetHparams


class ResizedCropFlip(Augmentation):
    """A part of random area, aspect and place is cut out and resized; every other image is mirrored."""

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        """Draw the part and the side of each image."""
        import torch

        from datasets.augmentations.transforms import BOX_DRAWS, flip, random_boxes, resized_crop, take

        draws = torch.rand(count, BOX_DRAWS, dtype=torch.float64, generator=stream)
        flips = torch.randint(0, 2, (count,), generator=stream).bool().to(stored.device)
        height, width = stored.shape[2:]
        heights, widths = torch.full((count,), height), torch.full((count,), width)
        boxes = random_boxes(draws, heights, widths, hparams.crop_scale, hparams.crop_ratio).to(stored.device)
        return lambda numbers, part: flip(
            resized_crop(take(stored, numbers), boxes[part], (height, width)), flips[part]
        )

    def draw_streamed(self, count: int, device: torch.device, stream: torch.Generator) -> StreamedBatches:
        """Draw the seed of each image's part, and its side."""
        import torch

        from datasets.augmentations.transforms import flip

        seeds = torch.randint(0, 2**62, (count,), generator=stream)
        flips = torch.randint(0, 2, (count,), generator=stream).bool().to(device)
        return seeds, lambda images, part: flip(images, flips[part])

    def cut(
        self, images: Sequence[Tensor], size: tuple[int, int], seeds: Sequence[int], hparams: DatasetHparams
    ) -> list[Tensor]:
        """Cut a random part out of each image and resize it."""
        import torch

        from datasets.augmentations.transforms import BOX_DRAWS, random_boxes, resize_image

        draws = torch.stack(
            [
                torch.rand(BOX_DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        )
        heights, widths = (torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2))
        boxes = random_boxes(draws, heights, widths, hparams.crop_scale, hparams.crop_ratio).tolist()
        return [
            resize_image(image[:, top : top + height, left : left + width], size)
            for image, (top, left, height, width) in zip(images, boxes, strict=True)
        ]


RESIZED_CROP_FLIP = ResizedCropFlip(spelling="resized_crop_flip", used_hparams=("crop_scale", "crop_ratio"))
