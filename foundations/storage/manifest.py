"""The manifest of a complete run: its files with their digests, and the inputs of its results."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from foundations.files import sha256_of_file
from foundations.storage import sealed_json

if TYPE_CHECKING:
    from dataclasses_json import DataClassJsonMixin

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 1 << 63
_NAME = re.compile(r"[^./\0][^/\0]*")
"""A file beside the manifest: nothing that leads out of the run's folder."""


@dataclass(frozen=True)
class FileRecord:
    """The record of a file in a manifest."""

    size: int
    """In bytes."""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Measure a file. Raises: OSError where there is none, or something else than a file."""
        return cls(path.stat().st_size, sha256_of_file(path))

    def difference(self, path: str) -> str:
        """Describe the difference between a file and its record, without reading the file; empty if there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116 (a Path for each file of thousands of runs takes as long)
        except (FileNotFoundError, NotADirectoryError):
            return "it is missing"
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        if not stat.S_ISREG(found.st_mode):
            return "it is not a regular file"
        return (
            "" if found.st_size == self.size else f"it has {found.st_size} bytes, not the {self.size} of its manifest"
        )

    @classmethod
    def of_tree(cls, tree: Any) -> FileRecord:
        """Read a record from plain data. Raises: KeyError or TypeError for anything else."""
        size, digest = tree["size"], tree["sha256"]
        if type(size) is not int or size < 0 or len(tree) != 2 or not _SHA256.fullmatch(digest):
            raise TypeError(f"{tree} is not the record of a file")
        return cls(size, digest)


@dataclass(frozen=True)
class Manifest:
    """The files of a complete run, its results and their inputs."""

    files: dict[str, FileRecord]
    results: dict[str, float | None]
    """Headline figures: the last value of each metric, and what the job adds (sparsity, ...).

    None where the value is not a finite number, such as the loss of a training that diverged: JSON cannot express it.
    """
    dataset: dict[str, str] = field(default_factory=dict)
    """Name and fingerprint of the prepared dataset."""
    parents: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file of another run that was used, by `<run>/<file>`."""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    run: str = ""
    """The run's location; empty in older manifests, which do not have it."""
    wall_seconds: float = 0.0
    finished: str = ""

    def to_bytes(self) -> bytes:
        """Return the content of `manifest.json`, with its own checksum."""
        from dataclasses_json import DataClassJsonMixin  # its import takes as long as listing a hundred runs

        return sealed_json.to_bytes(DataClassJsonMixin.to_dict(cast("DataClassJsonMixin", self)))

    @classmethod
    def from_bytes(cls, data: bytes, file: object = "A manifest") -> Manifest:
        """Read what `to_bytes` returned. Raises: ValueError, KeyError or TypeError for anything else.

        An older manifest without its own checksum is read as well. file: its path, for errors.
        Raises: EnvironmentFailure for one of a newer format.
        """
        tree = sealed_json.from_bytes(data, file)
        files = {_checked_name(name): FileRecord.of_tree(record) for name, record in tree.pop("files").items()}
        for name, is_right in _FORMS.items():
            if name in tree and not is_right(tree[name]):
                raise TypeError(f"'{name}' is of another form")
        return cls(files=files, **tree)


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise TypeError(f"'{name}' is not the name of a file of the run")
    return name


def _is_number(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is int and -_MOST < value < _MOST


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _is_results(value: object) -> bool:
    return isinstance(value, dict) and all(each is None or _is_number(each) for each in value.values())


_FORMS: dict[str, Callable[[object], bool]] = {
    "results": _is_results,
    "dataset": _is_texts,
    "parents": _is_texts,
    "versions": _is_texts,
    "device": lambda value: isinstance(value, str),
    "run": lambda value: isinstance(value, str),
    "wall_seconds": _is_number,
    "finished": lambda value: isinstance(value, str),
}
