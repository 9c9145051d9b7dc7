"""Augmentation of whole batches, on the device they are on.

Pure functions from uint8 images (B, C, H, W) to the same, and `normalize` from those to float32; random numbers are
arguments. Each equals the torchvision v2 transform of its kind, applied image by image with the same parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pad_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Pad each image with zeros on all sides and cut out a window of its first size.

    offsets: int64 (B, 2), the window's top and left edge in the padded image, in 0 ... 2 * padding.
    """
    return pad_crop_flip(images, offsets, torch.zeros(len(images), dtype=torch.bool, device=images.device), padding)


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror left and right those images whose entry in flips, bool (B,), is true."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def pad_crop_flip(images: Tensor, offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Return `flip(pad_crop(images, offsets, padding), flips)`, in one pass over the pixels."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flips[:, None], columns.flip(0), columns) + offsets[:, 1:]
    rows = torch.arange(height, device=images.device) + offsets[:, :1]
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    index = pixels.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view(images.shape)


def mirrored(offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Return the offsets at which cropping before the flip gives what the given ones give after it.

    So `flip(pad_crop(x, mirrored(offsets, flips, p), p), flips) == pad_crop(flip(x, flips), offsets, p)`.
    """
    left = torch.where(flips, 2 * padding - offsets[:, 1], offsets[:, 1])
    return torch.stack([offsets[:, 0], left], dim=1)


def rotate(images: Tensor, quarter_turns: Tensor) -> Tensor:
    """Turn each (square) image counterclockwise by its number of quarter turns, int64 (B,) in 0 ... 3."""
    turned = images.clone()
    for turns in (1, 2, 3):
        chosen = quarter_turns == turns
        turned[chosen] = torch.rot90(images[chosen], turns, dims=(2, 3))
    return turned


def blur(images: Tensor, factor: int) -> Tensor:
    """Shrink each image to int(side / factor) and enlarge it again (bilinear, antialiased, rounded to grey levels).

    Equals torchvision's resize of float images, rounded. Its kernel for uint8 on CPUs rounds after each axis as well
    and comes out up to 2 grey levels away; it is not used here, so that a result does not depend on the device.
    """
    height, width = images.shape[2:]
    small = _resize(images, (height // factor, width // factor))
    return _resize(small, (height, width))


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def normalize(images: Tensor, scale: Tensor, shift: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return scale * images + shift as float32 in a memory format; scale and shift are (1, C, 1, 1).

    With the values of `normalization` this is (images / 255 - mean) / std up to rounding of float32.
    """
    floats = images.to(torch.float32).mul_(scale).add_(shift)
    return floats.contiguous(memory_format=memory_format)


def normalization(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of `normalize`, float32 (1, C, 1, 1), for constants of pixels in [0, 1]."""
    means, stds = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
    scale, shift = 1 / (255 * stds), -means / stds
    return tuple(t.float().view(1, -1, 1, 1).to(device) for t in (scale, shift))  # type: ignore[return-value]
