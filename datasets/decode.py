"""Encoded images to tensors: torchvision's decoder for JPEG, PIL's for other formats and as a fallback.

torchvision's decoder of PNG ends the process (a segmentation fault) if an image is truncated, and is not faster.
Its decoder of GIF returns all frames.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datasets.formats.source_files import SourceFiles, Split, damaged

if TYPE_CHECKING:
    from PIL.Image import Image

SEVERAL_FRAMES = "several frames, of which the first is read"
TURNED = "an EXIF orientation, which is not applied"

_MOST_PIXELS = 1 << 28
_JPEG = b"\xff\xd8\xff"
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
"""Formats that PIL knows by name only, and EPS, for which it starts Ghostscript."""
_ORIENTATION, _UPRIGHT = 0x0112, 1
_16_BIT_FORMATS = ("PNG", "PPM")
"""Formats whose images in PIL's mode I have 16 bits; others have 32 bits there."""
_DAMAGES = (
    *(OSError, SyntaxError, ValueError, MemoryError, ArithmeticError, LookupError, TypeError, AttributeError),
    *(RuntimeError, AssertionError, EOFError, struct.error, zlib.error),
)
"""Errors of PIL's decoders for truncated files."""


EncodedFile = tuple[Path, bytes, str]
"""A published image in memory: its path, for errors; its content, still encoded; the name of its class."""


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of the decoded formats, in lower case, such as `.jpg`."""
    from PIL import Image

    formats = Image.registered_extensions()
    return frozenset(
        suffix.lower() for suffix, name in formats.items() if name in Image.OPEN and name not in _NOT_DECODED
    )


def decode(blob: bytes) -> Tensor:
    """Return an image as uint8 (3, H, W), equal to PIL's `convert("RGB")`. Raises: ValueError if it cannot be decoded.

    Transparency is dropped, the first of several frames is read, and an EXIF orientation is not applied, as in
    torchvision's ImageFolder. (PIL itself applies that of TIFF files.) Of 16 bits of gray the upper 8 are kept.
    """
    if blob.startswith(_JPEG):
        with contextlib.suppress(RuntimeError, ValueError, ImportError):
            return _with_torchvision(blob)
    return _with_pil(blob)


def check_header(blob: bytes) -> tuple[str, ...]:
    """Look at an image's header before it is decoded: a small file may claim to be enormous.

    Returns the features that `decode` ignores: SEVERAL_FRAMES, TURNED.
    Raises: ValueError if the bytes are not an image, or it has no pixels or more than 2^28.
    """
    remarks: list[str] = []
    with _opened(blob) as image:
        width, height = image.size
        with contextlib.suppress(*_DAMAGES):  # damaged metadata is no reason to refuse an image
            if getattr(image, "is_animated", False):
                remarks.append(SEVERAL_FRAMES)
            # For other formats, PIL would decode the whole image to find an orientation. It turns TIFF files itself.
            has_exif = "exif" in image.info and image.format != "TIFF"
            if has_exif and image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
                remarks.append(TURNED)
    if not 0 < width * height <= _MOST_PIXELS:
        raise ValueError(f"it is an image of {width} x {height}")
    return tuple(remarks)


def decode_splits(
    images: Mapping[str, Sequence[EncodedFile]], side: int, source: str, files: SourceFiles
) -> dict[str, Split] | None:
    """Return published images of one size by split, uint8 (N, 3, side, side), with their classes as labels.

    Returns None if a split has no images, or testing a class that training lacks. files: takes a report.
    Raises: DamagedError that names an image that is truncated or has another size.
    """
    classes = sorted({name for *_, name in images["train"]})
    if not all(images.values()) or not {name for *_, name in images["test"]} <= set(classes):
        return None
    files.report(f"decoding {sum(map(len, images.values())):,} images of {files.name}")
    return {split: _decode_split(found, classes, side, source) for split, found in images.items()}


def _decode_split(files: Sequence[EncodedFile], class_names: Sequence[str], side: int, source: str) -> Split:
    images = np.empty((len(files), 3, side, side), np.uint8)
    for index, (path, content, _) in enumerate(files):
        try:
            image = decode(content)
        except ValueError as error:
            raise damaged(path, str(error)) from error
        if image.shape != images.shape[1:]:
            raise damaged(path, f"it is an image of {tuple(image.shape)} and not {images.shape[1:]}")
        images[index] = image.numpy()
    number = {name: index for index, name in enumerate(class_names)}
    labels = np.array([number[name] for *_, name in files], np.int64)
    return Split(images, labels, tuple(class_names), source)


def _with_torchvision(blob: bytes) -> Tensor:
    from torchvision.io import ImageReadMode, decode_image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it announces its removal at each call
        image: Tensor = decode_image(torch.frombuffer(bytearray(blob), dtype=torch.uint8), ImageReadMode.RGB)
    return image


def _with_pil(blob: bytes) -> Tensor:
    from PIL.Image import fromarray

    with _opened(blob) as image:
        has_8_bits = not image.mode.startswith(("I", "F"))
        has_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _16_BIT_FORMATS)
        if has_8_bits or has_16_bits:
            upper = image if has_8_bits else fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = np.array(upper.convert("RGB"))
    if not (has_8_bits or has_16_bits):
        raise ValueError("its pixels are floating-point numbers or have 32 bits; save it with 8 or 16")
    return torch.from_numpy(pixels).permute(2, 0, 1)


@contextlib.contextmanager
def _opened(blob: bytes) -> Iterator[Image]:
    """Open an image with PIL. Raises: ValueError if the bytes are not an image, or the block fails to read it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(blob)) as image:
                if image.format in _NOT_DECODED:
                    raise UnidentifiedImageError
                yield image
    except UnidentifiedImageError as error:
        raise ValueError("it is not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise ValueError("it claims to be an enormous image") from error
    except _DAMAGES as error:
        raise ValueError(f"it is not a whole image ({error})") from error
