"""Street View House Numbers, format 2 (cropped digits): MATLAB 5 files with X uint8 (32, 32, 3, N) and y (N, 1).

A MATLAB 5 file is a 128-byte header and elements; an element is a type and a length (uint32 each) and its bytes, padded
to 8, or type, length and up to four bytes packed into 8 ('small'). Type 15 is a zlib-compressed element, type 14 a
matrix: flags, axes (int32), name, values in column-major order. Digit 0 has label 10.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.published import Download, Published, Split, damaged

_URL = "http://ufldl.stanford.edu/housenumbers/"
_MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
}
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


def read(published: Published) -> dict[str, Split]:
    """Return the training and the test set."""
    return {"train": _split(published, "train_32x32.mat"), "test": _split(published, "test_32x32.mat")}


def _split(published: Published, *names: str) -> Split:
    images, labels = [], []
    for name in names:
        path = published.need(download=Download(name, (_URL + name,), _MD5[name]))
        arrays = read_mat(path)
        if set(arrays) < {"X", "y"} or arrays["X"].ndim != 4 or arrays["X"].shape[:3] != (32, 32, 3):
            raise damaged(path, "holds no images X (32, 32, 3, N) with labels y")
        if arrays["y"].size != arrays["X"].shape[3]:
            raise damaged(path, "has not one label for each image")
        images.append(arrays["X"].transpose(3, 2, 0, 1).astype(np.uint8))
        labels.append(arrays["y"].reshape(-1).astype(np.int64) % 10)
    digits = tuple(map(str, range(10)))
    return Split(np.concatenate(images), np.concatenate(labels), digits, f"SVHN, published {' and '.join(names)}")


def read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """Return the numeric matrices of a MATLAB 5 file by name. Raises: DamagedError for another file."""
    blob = memoryview(path.read_bytes())
    if len(blob) < 128 or bytes(blob[124:128]) != b"\x00\x01IM":
        raise damaged(path, "not a MATLAB 5 file")
    try:
        return dict(_matrix(content) for kind, content in _elements(blob[128:]) if kind == _MATRIX)
    except (zlib.error, struct.error, ValueError, KeyError) as error:
        raise damaged(path, f"not a whole MATLAB 5 file ({error})") from error


def _elements(blob: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    while at < len(blob):
        kind, size = struct.unpack_from("<II", blob, at)
        if kind >> 16:  # small: the length is in the upper half, the bytes where the length would be
            yield kind & 0xFFFF, blob[at + 4 : at + 4 + (kind >> 16)]
            at += 8
            continue
        if at + 8 + size > len(blob):
            raise ValueError("it ends inside an element")
        content = blob[at + 8 : at + 8 + size]
        if kind == _COMPRESSED:
            yield from _elements(memoryview(zlib.decompress(content)))
            at += 8 + size
        else:
            yield kind, content
            at += 8 + size + -size % 8


def _matrix(content: memoryview) -> tuple[str, NDArray[Any]]:
    _, (_, axes), (_, name), (kind, values), *_ = _elements(content)
    shape = struct.unpack(f"<{len(axes) // 4}i", axes)
    array = np.frombuffer(values, np.dtype(_DTYPES[kind]).newbyteorder("<"))
    if array.size != math.prod(shape):
        raise ValueError(f"{array.size} values for a shape of {shape}")
    return bytes(name).decode(), array.reshape(shape, order="F")
