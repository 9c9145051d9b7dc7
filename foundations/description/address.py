"""The address of a run: a digest of its description, and of nothing else.

`digest` is the whole of identity: canonical JSON in, 32 hex digits out. A description that depends on other runs
contains their digests, so addresses form a Merkle tree.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 2
MAIN = "main"
_MOST = 1 << 63
_LOCATION = re.compile(r"((?:train|import)_[^/\0]+)/replicate_(\d{1,15})/(main|branch_[^/\0]+)", re.ASCII)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def canonical_json(tree: Any) -> str:
    """Return the one JSON text of a tree: sorted keys, no spaces. Raises: ValueError for NaN and infinities."""
    return _CANONICAL.encode(tree)


def digest(kind: str, canonical: Mapping[str, Any]) -> str:
    """Return the digest of a description: SHA-256 of kind, schema version and canonical form, first 32 hex digits."""
    named = {"kind": kind, "schema": SCHEMA_VERSION, "description": canonical}
    return hashlib.sha256(canonical_json(named).encode()).hexdigest()[:32]


def is_number(value: object) -> bool:
    """Return whether a value is a finite float, or a whole number of at most 63 bits and no bool."""
    return math.isfinite(value) if type(value) is float else type(value) is int and -_MOST < value < _MOST


@dataclass(frozen=True)
class Location:
    """The place of a run under the root: `<training>/replicate_<n>/<name>`."""

    training: str
    """`train_<digest>` or `import_<digest>`, of the training that the run is or is a branch of."""
    replicate: int
    name: str
    """`main`, or `branch_<kind>_<digest>`."""

    @classmethod
    def of(cls, training: Any, replicate: Any, name: Any) -> Location:
        """Check and return a location read from a file. Raises: ValueError or TypeError where it is not valid."""
        found = cls(training, replicate, name)
        if type(replicate) is not int or cls.parse(str(found)) != found:
            raise ValueError(f"{found} is not where a run is")
        return found

    @classmethod
    def parse(cls, text: str) -> Location | None:
        """Parse the text of a location, as `str` writes it; None for any other text."""
        match = _LOCATION.fullmatch(text)
        found = match and cls(match[1], int(match[2]), match[3])
        return found if found and str(found) == text else None

    @property
    def digest(self) -> str:
        """The digest of the run's description."""
        return (self.training if self.name == MAIN else self.name).rpartition("_")[2]

    def under(self, root: Path) -> Path:
        """Return the run's folder."""
        return root / str(self)

    def __str__(self) -> str:
        return f"{self.training}/replicate_{self.replicate}/{self.name}"
