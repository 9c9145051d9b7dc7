"""The manifest of a complete run: its files with their digests, and the inputs of its results."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from foundations import packs
from foundations.access import is_denied, reason
from foundations.description.address import is_number
from foundations.errors import ClosedError
from foundations.files import despite_stale, sha256_of_file
from foundations.storage import sealed_json

if TYPE_CHECKING:
    from dataclasses_json import DataClassJsonMixin

MANIFEST = "manifest.json"
NOT_A_MANIFEST = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Errors of reading anything else as a manifest."""
_NUMBERED = re.compile(r"manifest_([1-9]\d{0,8})\.json", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[^./\0][^/\0]*")
"""A file beside the manifest: nothing that leads out of the run's folder."""


def manifest_name(number: int) -> str:
    """Return the name of a run's manifest: `manifest.json` is number 1, `manifest_2.json` amends it, and so on."""
    return MANIFEST if number == 1 else f"manifest_{number}.json"


def manifest_number(name: str) -> int | None:
    """Return the number of the manifest with a name, or None for any other file."""
    match = _NUMBERED.fullmatch(name)
    return 1 if name == MANIFEST else int(match[1]) if match and match[1] != "1" else None


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116 (a Path for each file of thousands of runs takes as long)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
    return despite_stale(lambda: os.stat(path))  # noqa: PTH116


@dataclass(frozen=True)
class FileRecord:
    """The record of a file in a manifest."""

    size: int
    """In bytes."""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Measure a file. Raises: OSError where there is none, or something else than a file."""
        return cls(despite_stale(path.stat).st_size, sha256_of_file(path))

    @classmethod
    def of_bytes(cls, data: bytes) -> FileRecord:
        """Return the record of a file with some content."""
        return cls(len(data), hashlib.sha256(data).hexdigest())

    def difference(self, path: str, *, of_bytes: bool = False) -> str:
        """Describe the difference between a file and its record; empty if there is none.

        of_bytes: whether to compare the digest, too, which reads the file. Raises: OSError where it cannot be read;
        ClosedError where its folder may not be read.
        """
        try:
            found = _stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._difference_in_pack(path, of_bytes=of_bytes)
        except OSError as error:
            if is_denied(error):
                raise ClosedError(f"Cannot read {path}: {reason(error)}.") from error
            return f"it cannot be read ({error.strerror})"
        if not stat.S_ISREG(found.st_mode):
            return "it is not a regular file"
        if found.st_size != self.size:
            return f"it has {found.st_size} bytes, not the {self.size} of its manifest"
        try:
            is_same = not of_bytes or sha256_of_file(path) == self.sha256
        except (FileNotFoundError, NotADirectoryError):
            return "it is missing"
        return "" if is_same else "its SHA-256 is not the one of its manifest"

    def _difference_in_pack(self, path: str, *, of_bytes: bool) -> str:
        try:
            found = packs.member(path)
            if found is None:
                return "it is missing"
            if found.size != self.size:
                return f"it has {found.size} bytes, not the {self.size} of its manifest"
            is_same = not of_bytes or sha256_of_file(path) == self.sha256
            return "" if is_same else "its SHA-256 is not the one of its manifest"
        except FileNotFoundError:
            return "it is missing"
        except OSError as error:
            return f"it cannot be read ({error.strerror})"

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
    generation: str = ""
    """The name of the working folder that became the run's folder; empty in manifests of format 1."""
    wall_seconds: float = 0.0
    finished: str = ""
    evicted: dict[str, FileRecord] = field(default_factory=dict)
    """The states that `gc` removed: a replay gives them back, with the same bytes. Written only if there are any."""

    def to_bytes(self) -> bytes:
        """Return the content of `manifest.json`, with its own checksum."""
        from dataclasses_json import DataClassJsonMixin  # its import takes as long as listing a hundred runs

        tree = DataClassJsonMixin.to_dict(cast("DataClassJsonMixin", self))
        return sealed_json.to_bytes({name: value for name, value in tree.items() if name != "evicted" or value})

    @classmethod
    def from_bytes(cls, data: bytes, file: object = "A manifest") -> Manifest:
        """Read what `to_bytes` returned. Raises: ValueError, KeyError, TypeError or AttributeError for anything else.

        An older manifest without its own checksum is read as well. file: its path, for errors.
        Raises: EnvironmentFailure for one of a newer format.
        """
        tree = sealed_json.from_bytes(data, file)
        files = {name: FileRecord.of_tree(record) for name, record in tree.pop("files").items()}
        evicted = {name: FileRecord.of_tree(record) for name, record in tree.pop("evicted", {}).items()}
        found = cls(files=files, evicted=evicted, **tree)
        texts = [found.device, found.run, found.finished, found.generation]
        for facts in (found.dataset, found.parents, found.versions):
            texts += facts.values()
        numbers = [found.wall_seconds, *(value for value in found.results.values() if value is not None)]
        if not all(map(_NAME.fullmatch, [*files, *evicted])):
            raise TypeError("a file is not in the run's folder")
        if not all(isinstance(text, str) for text in texts) or not all(map(is_number, numbers)):
            raise TypeError("a value is of another form")
        return found
