"""JSON files with their own checksum.

`sha256` in such a file is the SHA-256 of the whole file with zeros in the place of these digits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from foundations.errors import EnvironmentFailure

FORMAT = 2
"""The format of a root (docs/format.md). Files of format 1, which are read as well, do not state it."""
_FORMATS = (1, FORMAT)
_OWN_DIGEST = re.compile(rb'^ "sha256": "([0-9a-f]{64})"', re.MULTILINE)
_ANY_DIGEST = re.compile(rb'^ "[^"]*": "[0-9a-f]{64}"', re.MULTILINE)
_NO_DIGEST = b"0" * 64


def to_bytes(tree: Mapping[str, Any]) -> bytes:
    """Return the content of a file that holds an object."""
    sealed = {"format": FORMAT, **tree, "sha256": _NO_DIGEST.decode()}
    data = (json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    return _with_digest(data, hashlib.sha256(data).hexdigest().encode())


def from_bytes(data: bytes, file: object = "A file") -> dict[str, Any]:
    """Read the content that `to_bytes` returned. Raises: ValueError for anything else.

    file: the name for an error about the format.
    An older file without its own checksum is read as well.
    Raises: EnvironmentFailure for an undamaged file of a newer format.
    """
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(tree, dict):
        raise ValueError("it is not a JSON object")
    own = tree.pop("sha256", None)
    if own is None and _ANY_DIGEST.search(data):
        raise ValueError("it is not as it was written")  # the name of its digest was changed
    if own is not None and own != hashlib.sha256(_with_digest(data, _NO_DIGEST)).hexdigest():
        raise ValueError("its SHA-256 is not the one that it states")
    stated = tree.pop("format", 1)
    if type(stated) is not int or stated not in _FORMATS:
        raise EnvironmentFailure(
            f"{file} is of format {stated}, and this version reads formats 1 to {FORMAT}: use a newer version."
        )
    return tree


def _with_digest(data: bytes, digest: bytes) -> bytes:
    found = _OWN_DIGEST.search(data)
    if found is None:
        raise ValueError("it is not as it was written")
    return data[: found.start(1)] + digest + data[found.end(1) :]
