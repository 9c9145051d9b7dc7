"""Runs that came in shared files: which file, when, and who signed it.

    <root>/.imports/<SHA-256 of the file>.json

A run is marked only while its first manifest is the one that was imported: a run that was removed and computed again is
one's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foundations.files import read_file, write_atomically
from foundations.storage import sealed_json
from foundations.storage.manifest import MANIFEST
from foundations.storage.packed import packed_runs

FOLDER = ".imports"
"""The folder of a root for these records."""
_WRONG = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Origin:
    """A shared file whose runs were imported."""

    file: str
    """Its name."""
    sha256: str
    imported: str
    """The local time."""
    signed_by: str
    """The name of the trusted key that signed it; empty if none did."""
    runs: Mapping[str, str]
    """By location, the SHA-256 of the first manifest of each run that came with it."""

    def __str__(self) -> str:
        return f"{self.file} (signed by {self.signed_by})" if self.signed_by else self.file


def keep_origin(origin: Origin, root: Path) -> None:
    """Record an import, beside the runs that an earlier import of the same file brought."""
    path = root / FOLDER / f"{origin.sha256}.json"
    known = _read(path)
    runs = {**(known.runs if known else {}), **origin.runs}
    facts = {"file": origin.file, "imported": origin.imported, "signed_by": origin.signed_by, "runs": runs}
    write_atomically(path, sealed_json.to_bytes({**facts, "file_sha256": origin.sha256}))


def origins(root: Path) -> dict[str, Origin]:
    """Return the origin of each imported run under a root, by its location. Ignores damaged records."""
    found: dict[str, Origin] = {}
    try:
        names = sorted(os.listdir(root / FOLDER))  # noqa: PTH208 (most roots have none: one system call)
    except OSError:
        return found
    for name in names:
        origin = _read(root / FOLDER / name) if name.endswith(".json") else None
        for location, sha256 in origin.runs.items() if origin else ():
            if location not in found and origin and _sha256_of(_place(root, location) / MANIFEST) == sha256:
                found[location] = origin
    return found


def _place(root: Path, location: str) -> Path:
    own = root / location
    return own if own.exists() else packed_runs(root).get(location, own)


def _read(path: Path) -> Origin | None:
    with contextlib.suppress(*_WRONG):
        tree = sealed_json.from_bytes(read_file(path), path)
        texts = [tree[name] for name in ("file", "file_sha256", "imported", "signed_by")]
        runs = {location: sha256 for location, sha256 in tree["runs"].items() if ".." not in location}
        if all(isinstance(text, str) for text in (*texts, *runs, *runs.values())):
            return Origin(texts[0], texts[1], texts[2], texts[3], runs)
    return None


def _sha256_of(path: Path) -> str:
    with contextlib.suppress(OSError):
        return hashlib.sha256(read_file(path)).hexdigest()
    return ""
