"""MATLAB 5 files: numbers, texts, structures and cells, read without running anything.

The file is a 128-byte header and elements. An element is a type and a length (uint32 each) and its bytes, padded to 8;
or type, length and up to four bytes packed into 8 ('small'). Type 15 is a zlib-compressed element, type 14 a matrix:
its class, axes (int32), name, and content in column-major order.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from datasets.formats.source_files import damaged

_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT = 1, 2, 4
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 16: "u1"}


def parse_mat(blob: bytes, place: str) -> dict[str, Any]:
    """Return the variables of a file's bytes: arrays, texts, and lists of dictionaries (structures) or values (cells).

    place: the file's name, for errors. Raises: DamagedError for anything else.
    """
    if len(blob) < 128 or blob[124:128] != b"\x00\x01IM":
        raise damaged(place, "it is not a MATLAB 5 file")
    try:
        return dict(_matrix(content) for kind, content in _elements(memoryview(blob)[128:]) if kind == _MATRIX)
    except (zlib.error, struct.error, ValueError, KeyError, IndexError) as error:
        raise damaged(place, f"it is not a whole MATLAB 5 file ({error})") from error


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


def _matrix(content: memoryview) -> tuple[str, Any]:
    if not content:  # an empty field of a structure
        return "", np.empty((0, 0))
    (_, flags), (_, axes), (_, name), *rest = _elements(content)
    shape = struct.unpack(f"<{len(axes) // 4}i", axes)
    return bytes(name).decode(), _value(flags[0], shape, rest)


def _value(kind: int, shape: tuple[int, ...], rest: list[tuple[int, memoryview]]) -> Any:
    if kind == _CELL:
        return [_matrix(content)[1] for _, content in rest]
    if kind == _STRUCT:
        (_, length), (_, joined), *values = rest
        size = struct.unpack("<i", length)[0]
        fields = [bytes(joined[i : i + size]).split(b"\0")[0].decode() for i in range(0, len(joined), size)]
        parts = iter(values)
        return [{field: _matrix(next(parts)[1])[1] for field in fields} for _ in range(math.prod(shape))]
    stored, values_ = rest[0]
    array = np.frombuffer(values_, np.dtype(_DTYPES[stored]).newbyteorder("<"))
    if array.size != math.prod(shape):
        raise ValueError(f"{array.size} values for a shape of {shape}")
    if kind == _TEXT:
        return "".join(map(chr, array))
    return array.reshape(shape, order="F")
