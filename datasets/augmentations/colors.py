"""Colours of whole batches: greyscale and colour jitter, on the device that the batches are on.

Pure functions from uint8 images (B, 3, H, W) to the same; random numbers are arguments, one for each image. Each is
torchvision's v2 transform of its kind, applied image by image with the same parameters, to within a grey level. (Both
round down, and float32 errs on either side of a whole number.)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WEIGHTS = (0.2989, 0.587, 0.114)
"""Of red, green and blue in grey (ITU-R 601)."""


def grey(images: Tensor) -> Tensor:
    """Return the brightness of each pixel, uint8 (B, 1, H, W), rounded down."""
    red, green, blue = images.float().unbind(1)
    return (_WEIGHTS[0] * red + _WEIGHTS[1] * green + _WEIGHTS[2] * blue).to(torch.uint8)[:, None]


def brightened(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply each image by its factor, float (B,)."""
    return _blended(images, torch.zeros((), device=images.device), factors)


def contrasted(images: Tensor, factors: Tensor) -> Tensor:
    """Move each image away from its mean brightness (a factor above 1) or towards it, float (B,)."""
    means = grey(images).double().mean((1, 2, 3), keepdim=True)  # a sum of integers: exact in any order
    return _blended(images, means.float(), factors)


def saturated(images: Tensor, factors: Tensor) -> Tensor:
    """Move each pixel away from its grey (a factor above 1) or towards it, float (B,)."""
    return _blended(images, grey(images).float(), factors)


def hue_shifted(images: Tensor, shifts: Tensor) -> Tensor:
    """Turn the hue of each image by a part of the colour circle, float (B,) in -0.5 ... 0.5."""
    x = images.float() / 255
    value, lowest = x.amax(1), x.amin(1)
    spread = value - lowest
    red, green, blue = x.unbind(1)
    divisor = torch.where(spread == 0, 1.0, spread)
    sector = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    turned = sector + 6 * shifts[:, None, None]
    places = torch.stack([torch.remainder(turned + start, 6) for start in (5, 3, 1)], 1)
    share = torch.minimum(places, 4 - places).clamp(0, 1)
    return ((value[:, None] - spread[:, None] * share) * (256 - 1e-3)).to(torch.uint8)


CHANGES: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (brightened, contrasted, saturated, hue_shifted)


def jittered(images: Tensor, greys: Tensor, amounts: Tensor, orders: Tensor) -> Tensor:
    """Make some images grey, then change brightness, contrast, saturation and hue of each, in its own order.

    greys: bool (B,). amounts: float (B, 4), the argument of each of `CHANGES`. orders: integers (B, 4), the indices of
    the changes, in the order of their application.
    """
    images = torch.where(greys[:, None, None, None], grey(images), images)
    for place in range(len(CHANGES)):
        for number, change in enumerate(CHANGES):
            chosen = (orders[:, place] == number).nonzero()[:, 0]
            if len(chosen):
                images[chosen] = change(images[chosen], amounts[chosen, number])
    return images


def _blended(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    shares = factors[:, None, None, None]
    return (shares * images + (1 - shares) * others).clamp_(0, 255).to(torch.uint8)
