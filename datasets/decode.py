"""Encoded images to tensors: torchvision's decoder, and PIL's where that has none."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.published import damaged


def decode(blob: bytes) -> Tensor:
    """Return an image as uint8 (3, H, W). Raises: ValueError where the bytes are no whole image."""
    try:
        return _with_torchvision(blob)
    except (RuntimeError, ValueError, ImportError):
        return _with_pil(blob)


def decode_all(files: Iterable[tuple[Path, bytes]], count: int, side: int) -> NDArray[np.uint8]:
    """Return `count` published images of one size, uint8 (count, 3, side, side).

    files: the path of each, for errors, and its bytes. Raises: DamagedError that names an image that is not whole or
    has another size.
    """
    images = np.empty((count, 3, side, side), np.uint8)
    for index, (path, blob) in enumerate(files):
        try:
            image = decode(blob)
        except ValueError as error:
            raise damaged(path, str(error)) from error
        if image.shape != images.shape[1:]:
            raise damaged(path, f"an image of {tuple(image.shape)} and not {images.shape[1:]}")
        images[index] = image.numpy()
    return images


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
