"""The manifest of a complete run: which files it consists of, with their digests, and what the results came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataclasses_json import DataClassJsonMixin

from foundations.files import sha256_of_file


@dataclass(frozen=True)
class FileRecord(DataClassJsonMixin):
    """What a manifest says of a file."""

    size: int
    """In bytes."""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Measure a file."""
        return cls(path.stat().st_size, sha256_of_file(path))


@dataclass(frozen=True)
class Manifest(DataClassJsonMixin):
    """What a complete run consists of and where it came from."""

    files: dict[str, FileRecord]
    results: dict[str, float | None]
    """Headline figures: the last value of each metric, and what the job adds (sparsity, ...).

    None where the value is not a finite number, such as the loss of a training that diverged: JSON has no word for it.
    """
    dataset: dict[str, str] = field(default_factory=dict)
    """Name and fingerprint of the prepared dataset."""
    parents: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file of another run that was used, by `<run>/<file>`."""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    wall_seconds: float = 0.0
    finished: str = ""

    @classmethod
    def of_tree(cls, tree: dict[str, Any]) -> Manifest:
        """Read a manifest from plain data. Raises: KeyError, TypeError or AttributeError for anything else."""
        # By hand: listing thousands of runs waits for this.
        files: Mapping[str, Any] = tree.pop("files")
        return cls(files={name: FileRecord(**record) for name, record in files.items()}, **tree)
