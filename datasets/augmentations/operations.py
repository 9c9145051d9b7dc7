"""The operations of RandAugment, on batches of uint8 images (B, C, H, W) of 1 or 3 channels.

They are torchvision's, by `transforms.v2.functional`, with the 31 strengths of its `transforms.v2.RandAugment`. They
fill with zeros, and resample by the nearest neighbour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_STRENGTHS = 31
_SHIFT = 150 / 331
"""The largest shift, as a part of the image's side."""


@dataclass(frozen=True)
class Strength:
    """The strength of an operation."""

    magnitude: int
    """From 0 to 30."""
    sign: int = 1
    """Of operations with a direction: 1 or -1."""

    def up_to(self, last: float, first: float = 0.0) -> float:
        """Return the value at this magnitude, where `first` is at 0 and `last` at 30, times the sign."""
        return self.sign * float(torch.linspace(first, last, _STRENGTHS)[self.magnitude])


def _sheared(images: Tensor, x: float, y: float) -> Tensor:
    degrees = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    found: Tensor = F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0])
    return found


def _shifted(images: Tensor, x: float, y: float) -> Tensor:
    found: Tensor = F.affine(images, angle=0.0, translate=[int(x), int(y)], scale=1.0, shear=[0.0, 0.0])
    return found


Operation = Callable[[Tensor, Strength], Tensor]
OPERATIONS: tuple[tuple[Operation, bool], ...] = (
    (lambda images, _: images, False),
    (lambda images, strength: _sheared(images, strength.up_to(0.3), 0.0), True),
    (lambda images, strength: _sheared(images, 0.0, strength.up_to(0.3)), True),
    (lambda images, strength: _shifted(images, strength.up_to(_SHIFT * images.shape[3]), 0.0), True),
    (lambda images, strength: _shifted(images, 0.0, strength.up_to(_SHIFT * images.shape[2])), True),
    (lambda images, strength: F.rotate(images, angle=strength.up_to(30.0)), True),
    (lambda images, strength: F.adjust_brightness(images, 1 + strength.up_to(0.9)), True),
    (lambda images, strength: F.adjust_saturation(images, 1 + strength.up_to(0.9)), True),
    (lambda images, strength: F.adjust_contrast(images, 1 + strength.up_to(0.9)), True),
    (lambda images, strength: F.adjust_sharpness(images, 1 + strength.up_to(0.9)), True),
    (lambda images, strength: F.posterize(images, bits=round(8 - strength.magnitude / 7.5)), False),
    (lambda images, strength: F.solarize(images, threshold=255 * strength.up_to(0.0, first=1.0)), False),
    (lambda images, _: F.autocontrast(images), False),
    (lambda images, _: F.equalize(images), False),
)
"""Each operation, and whether it has a direction: identity; shear along x and y; shift along x and y; rotation;
brightness; colour; contrast; sharpness; posterize; solarize; autocontrast; equalize."""


def operated(images: Tensor, chosen: Tensor, turned: Tensor, magnitude: int) -> Tensor:
    """Apply some operations to each image, one after the other.

    images: uint8 (B, C, H, W). chosen: the indices of operations, integers (B, count) on the CPU. turned: bool (B,
    count), whether operations with a direction go the other way. magnitude: their strength, of 0 to 30.
    """
    images = images.clone()
    for own, other_way in zip(chosen.unbind(1), turned.unbind(1), strict=True):
        for number, (operation, has_direction) in enumerate(OPERATIONS):
            for sign in (1, -1) if has_direction else (1,):
                meant = (own == number) & (other_way == (sign < 0)) if has_direction else own == number
                rows = meant.nonzero()[:, 0].to(images.device)
                if number and len(rows):
                    images[rows] = operation(images[rows], Strength(magnitude, sign))
    return images
