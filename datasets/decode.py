"""Encoded images to tensors: torchvision's decoder for JPEG, PIL's for PNG and where torchvision's fails.

torchvision's decoder of PNG ends the process (a segmentation fault) where an image is not whole, and is not faster.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.source_files import Split, damaged

_MOST_PIXELS = 1 << 28
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class EncodedFile:
    """A published image in memory, still encoded."""

    path: Path
    """Where it is, for errors."""
    content: bytes
    class_name: str


def decode(blob: bytes) -> Tensor:
    """Return an image as uint8 (3, H, W). Raises: ValueError where the bytes are not a whole image."""
    if not blob.startswith(_PNG):
        with contextlib.suppress(RuntimeError, ValueError, ImportError):
            return _with_torchvision(blob)
    return _with_pil(blob)


def check_pixels(blob: bytes) -> None:
    """Look at an image's header before it is decoded: a small file may claim to be enormous.

    Raises: ValueError where the bytes are not an image, or it has no pixels or more than 2^28.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(blob)) as image:
                width, height = image.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("it is not an image, or an enormous one") from error
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError(f"it is an image of {width} x {height}")


def decode_split(files: Sequence[EncodedFile], class_names: Sequence[str], side: int, source: str) -> Split:
    """Return published images of one size, uint8 (N, 3, side, side), with their classes as labels.

    Raises: DamagedError that names an image that is not whole or has another size.
    """
    images = np.empty((len(files), 3, side, side), np.uint8)
    for index, file in enumerate(files):
        try:
            image = decode(file.content)
        except ValueError as error:
            raise damaged(file.path, str(error)) from error
        if image.shape != images.shape[1:]:
            raise damaged(file.path, f"it is an image of {tuple(image.shape)} and not {images.shape[1:]}")
        images[index] = image.numpy()
    number = {name: index for index, name in enumerate(class_names)}
    labels = np.array([number[file.class_name] for file in files], np.int64)
    return Split(images, labels, tuple(class_names), source)


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
            # Of 16 bits of gray the upper 8 are kept.
            is_deep = image.mode.startswith("I")
            shown = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if is_deep else image
            pixels = np.array(shown.convert("RGB"))
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is not a whole image ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
