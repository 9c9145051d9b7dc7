"""Transforms of whole batches, on the device they are on.

Pure functions from uint8 images (B, C, H, W) to the same, and `normalize` to float32; random numbers are
arguments. Each equals the torchvision v2 transform of its kind, applied image by image with the same parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_AT_ONCE = 128
"""Images that are mirrored at a time, so that they stay in the processor's cache."""


def take(images: Tensor, numbers: Tensor) -> Tensor:
    """Return images by their numbers, int64 (B,), in the memory format of all: `images[numbers]`, but much faster."""
    if images.is_contiguous():
        return images.index_select(0, numbers)
    return images.permute(0, 2, 3, 1).index_select(0, numbers).permute(0, 3, 1, 2)


def in_format(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return `images.contiguous(memory_format=...)`, in two thirds of its time for a whole dataset of bytes."""
    if images.is_contiguous(memory_format=memory_format) or memory_format != torch.channels_last:
        return images.contiguous(memory_format=memory_format)
    return torch.stack(images.unbind(1), -1).permute(0, 3, 1, 2)


def pad_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Pad each image with zeros on all sides and cut out a window of its first size.

    offsets: int64 (B, 2), the window's top and left edge in the padded image, in 0 ... 2 * padding.
    """
    batch, _, height, width = images.shape
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view of all windows of all
    return windows[torch.arange(batch, device=images.device), :, offsets[:, 0], offsets[:, 1]]


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """Mirror left and right those images whose entry in flips, bool (B,), is true."""
    both = torch.cat([images, images.flip(3)])
    return take(both, torch.arange(len(images), device=images.device) + len(images) * flips)


def with_mirrored(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return all images, and then all of them mirrored left and right, in a memory format."""
    count = len(images)
    size = (2 * count, *images.shape[1:])
    both = torch.empty(size, dtype=images.dtype, device=images.device, memory_format=memory_format)
    for first in range(0, count, _AT_ONCE):
        some = in_format(images[first : first + _AT_ONCE], memory_format)
        both[first : first + len(some)] = some
        both[count + first : count + first + len(some)] = some.flip(3)
    return both


def mirrored(offsets: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Return the offsets for cropping before a flip that are equivalent to the given offsets after it.

    So `flip(pad_crop(x, mirrored(offsets, flips, p), p), flips) == pad_crop(flip(x, flips), offsets, p)`; flip and crop
    may also change places.
    """
    left = torch.where(flips, 2 * padding - offsets[:, 1], offsets[:, 1])
    return torch.stack([offsets[:, 0], left], dim=1)


_TRIES = 10
BOX_DRAWS = 2 * _TRIES + 2
"""Random numbers that a box takes."""


def random_boxes(draws: Tensor, heights: Tensor, widths: Tensor, scale: float, ratio: float) -> Tensor:
    """Return boxes int64 (B, 4) of random area, aspect and place: top, left, height, width.

    The distribution is that of torchvision's RandomResizedCrop: the first of ten tries that fits, or else the largest
    part in the middle with an aspect in bounds.

    draws: float64 (B, BOX_DRAWS), uniform in [0, 1). heights, widths: the images' sizes, int64 (B,).
    scale: the smallest part of an image's area, up to all of it. ratio: the largest of width to height, down to its
    inverse.
    """
    area_draws, aspect_draws = draws[:, :_TRIES], draws[:, _TRIES : 2 * _TRIES]
    areas = (heights * widths)[:, None] * (scale + (1 - scale) * area_draws)
    low, high = math.log(1 / ratio), math.log(ratio)
    aspects = torch.exp(low + (high - low) * aspect_draws)
    tried_widths, tried_heights = torch.sqrt(areas * aspects).round().long(), torch.sqrt(areas / aspects).round().long()
    fits = (tried_widths > 0) & (tried_widths <= widths[:, None]) & (tried_heights > 0)
    fits &= tried_heights <= heights[:, None]
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    box_widths, box_heights = tried_widths.gather(1, first)[:, 0], tried_heights.gather(1, first)[:, 0]
    tops = (draws[:, -2] * (heights - box_heights + 1)).long()
    lefts = (draws[:, -1] * (widths - box_widths + 1)).long()
    found = torch.stack([tops, lefts, box_heights, box_widths], 1)
    return torch.where(fits.any(1, keepdim=True), found, _middle_boxes(heights, widths, ratio))


def _middle_boxes(heights: Tensor, widths: Tensor, ratio: float) -> Tensor:
    box_widths = torch.minimum(widths, (heights * ratio).round().long())
    box_heights = torch.minimum(heights, (widths / (1 / ratio)).round().long())
    return torch.stack([(heights - box_heights) // 2, (widths - box_widths) // 2, box_heights, box_widths], 1)


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a box out of each image and resize it (bilinear, antialiased, rounded to grey levels).

    boxes: int64 (B, 4), top, left, height, width. size: height and width of the result.
    A resize along an axis is a product with a matrix, so that a batch of different boxes is two batched products. Like
    `blur`, this equals torchvision's resize of float images, rounded.
    """
    tops, lefts, heights, widths = boxes.unbind(1)
    down = _resize_matrices(tops, heights, images.shape[2], size[0])[:, None]
    across = _resize_matrices(lefts, widths, images.shape[3], size[1])[:, None]
    resized = down @ images.float() @ across.mT
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _resize_matrices(starts: Tensor, lengths: Tensor, side: int, size: int) -> Tensor:
    """Return the weights float32 (B, size, side) of each pixel of an axis in each pixel of its resized part.

    A pixel's weight falls linearly with its distance to the new pixel's centre, over the width of a new pixel or of an
    old one, whichever is larger.
    """
    scales = lengths.double()[:, None, None] / size
    centres = (torch.arange(size, device=starts.device)[:, None] + 0.5) * scales
    places = torch.arange(side, device=starts.device) - starts[:, None, None]
    weights = (1 - (places + 0.5 - centres).abs() / scales.clamp(min=1)).clamp(min=0)
    weights = weights * ((places >= 0) & (places < lengths[:, None, None]))
    return (weights / weights.sum(2, keepdim=True)).float()


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
    and differs by up to 2 grey levels; it is not used here, so that a result does not depend on the device.
    """
    height, width = images.shape[2:]
    small = _resize_in_float(images, (height // factor, width // factor))
    return _resize_in_float(small, (height, width))


def _resize_in_float(images: Tensor, size: tuple[int, int]) -> Tensor:
    resized = F.interpolate(images.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize one image, uint8 (3, H, W), with PyTorch's kernel for uint8 on CPUs, which torchvision uses too.

    It is several times faster than resizing in float, and fastest on channels_last, the format in which images are
    decoded.
    """
    one = image[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(one, size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def resized_middle(image: Tensor, size: tuple[int, int], around: float) -> Tensor:
    """Resize the shorter side to `around` times the size and cut out the middle, as torchvision does.

    image: uint8 (3, H, W). size: height and width of the result, uint8 too.
    """
    height, width = image.shape[1:]
    shorter = round(min(size) * around)
    if height <= width:
        resized = resize_image(image, (shorter, int(shorter * width / height)))
    else:
        resized = resize_image(image, (int(shorter * height / width), shorter))
    top, left = (round((have - want) / 2.0) for have, want in zip(resized.shape[1:], size, strict=True))
    return resized[:, top : top + size[0], left : left + size[1]]


def normalize(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return scale * images + shift as float32, in the memory format of the images.

    With the values of `normalization` this is (images / 255 - mean) / std up to rounding of float32.
    """
    return images.to(torch.float32).mul_(scale).add_(shift)


def normalization(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    size: tuple[int, int],
    device: torch.device,
    memory_format: torch.memory_format,
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift of `normalize` for constants of pixels in [0, 1].

    They are float32 (1, C, H, W), one value for each pixel in the images' memory format, since products of tensors in
    the same format are several times faster than those that broadcast one value for each channel.
    """
    means, stds = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
    scale, shift = (
        values.float().expand(-1, -1, *size).contiguous(memory_format=memory_format).to(device)
        for values in (1 / (255 * stds), -means / stds)
    )
    return scale, shift
