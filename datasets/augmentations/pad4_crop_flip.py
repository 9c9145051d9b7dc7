"""The usual augmentation of CIFAR: pad by 4, crop at random, mirror every other image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import Augmentation, MemoryBatches

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from datasets.hparams import DatasetHparams

_PADDING = 4


class Pad4CropFlip(Augmentation):
    """Images are padded with zeros by 4 on each side and cropped at random; every other one is mirrored."""

    def stored(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        """Return the images and then their mirror images: more memory, but batches in two thirds of the time.

        On CPUs, return the images as they are: they are mapped from a file, so that all jobs of a machine share them.
        """
        from datasets.augmentations.transforms import with_mirrored

        return images if images.device.type == "cpu" else with_mirrored(images, memory_format)

    def draw(self, count: int, stored: Tensor, hparams: DatasetHparams, stream: torch.Generator) -> MemoryBatches:
        """Draw the window and the side of each image."""
        import torch

        from datasets.augmentations.transforms import mirrored, pad_crop, take

        offsets = torch.randint(0, 2 * _PADDING + 1, (count, 2), generator=stream)
        flips = torch.randint(0, 2, (count,), generator=stream).bool()
        if hparams.augmentation_order == "crop_flip":
            offsets = mirrored(offsets, flips, _PADDING)
        if len(stored) == count:

            def batch(numbers: Tensor, part: slice) -> Tensor:
                images, flipped = take(stored, numbers), flips[part]
                images[flipped] = images[flipped].flip(3)
                return pad_crop(images, offsets[part], _PADDING)

            return batch
        offsets, to_mirrored = offsets.to(stored.device), (count * flips).to(stored.device)
        return lambda numbers, part: pad_crop(take(stored, numbers + to_mirrored[part]), offsets[part], _PADDING)


PAD4_CROP_FLIP = Pad4CropFlip(spelling="pad4_crop_flip", used_hparams=("augmentation_order",))
