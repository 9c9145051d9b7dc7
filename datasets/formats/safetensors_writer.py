"""Writes safetensors files. The library's own writer gives them mode 0600, so nobody else could read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMES = {"uint8": "U8", "uint16": "U16", "int32": "I32", "int64": "I64", "float32": "F32"}
"""The format's names of the types that prepared datasets have."""


def write_tensors(path: Path, arrays: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]) -> None:
    """Write arrays (of a type in `_NAMES`, C order) and metadata as one safetensors file, with the umask's mode.

    Arrays of wider types come first, and names are sorted within a type, as the library orders them.
    Raises: OSError.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    ordered, end = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])), 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, array in ordered:
            file.write(array.data.cast("B") if array.size else b"")
