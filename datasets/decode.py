"""Encoded images to tensors: torchvision's decoder, and PIL's where that has none."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from torch import Tensor


def decode(blob: bytes) -> Tensor:
    """Return an image as uint8 (3, H, W). Raises: ValueError where the bytes are no whole image."""
    try:
        return _with_torchvision(blob)
    except (RuntimeError, ValueError, ImportError):
        return _with_pil(blob)


def _with_torchvision(blob: bytes) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it announces its removal at each call
        image: Tensor = decode_image(torch.frombuffer(bytearray(blob), dtype=torch.uint8), ImageReadMode.RGB)
    return image


def _with_pil(blob: bytes) -> Tensor:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(blob)) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"not a whole image ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
