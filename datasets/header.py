"""The header of a safetensors file, read without torch and numpy (`safetensors.safe_open` imports one of them).

The file is the header's length (uint64, little-endian), the header (JSON: for each tensor its `dtype`, `shape` and
`data_offsets`; and texts under `__metadata__`), and the tensors' bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.errors import DamagedError

_MAX_BYTES = 1 << 22


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of its content."""

    tensors: dict[str, Any]
    """By name: `dtype`, `shape`, `data_offsets` (from `start`)."""
    metadata: dict[str, str]
    start: int
    """Where the tensors' bytes begin."""


def read_header(path: Path) -> Header:
    """Return the header. Raises: DamagedError where there is no whole one; OSError where the file cannot be read."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        try:
            tensors = json.loads(file.read(size) if size < _MAX_BYTES else b"")
            metadata = tensors.pop("__metadata__", {})
            if not all({"dtype", "shape", "data_offsets"} <= set(entry) for entry in tensors.values()):
                raise ValueError("a tensor lacks its place")
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged_prepared_file(path, f"it has no header ({error})") from error
    return Header(tensors, metadata, 8 + size)


def damaged_prepared_file(path: Path, reason: str) -> DamagedError:
    """Return the error for a prepared file that is not what it should be. reason: a sentence about it."""
    return DamagedError(
        f"{path} is not a whole prepared dataset: {reason}.\n"
        f"Remove it (rm '{path}'); the next use makes it again from the published files."
    )
