"""The folder of a run: its place, its description, and its manifests.

A run is completed by its first manifest, `manifest.json`. If it loses states on purpose, or gets them back, another
manifest follows, `manifest_2.json` and so on: whole, and never changed. The last one counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from foundations.access import is_denied, reason
from foundations.description.address import Location
from foundations.description.desc import check_record
from foundations.errors import ClosedError, DamagedError, EnvironmentFailure
from foundations.files import create_file, explain_os_errors, read_file, write_atomically
from foundations.program import PROGRAM
from foundations.storage import sealed_json
from foundations.storage.manifest import FileRecord, Manifest

DESCRIPTION = "description.json"
MANIFEST = "manifest.json"
LEFT_OUT = (
    "it was left out when the run was shared, or removed to make room. A job that needs it computes it again from the "
    "description."
)


class RunFolder:
    """The folder of a run, its description and its manifests."""

    def __init__(self, root: Path, location: Location) -> None:
        self.root = root
        self.location = location

    @cached_property
    def folder(self) -> Path:
        """The directory itself."""
        return self.location.under(self.root)

    def __str__(self) -> str:
        return str(self.location)

    def path(self, name: str) -> Path:
        """Return the path of one of the run's files, whether or not it exists."""
        return self.folder / name

    def record(self) -> dict[str, Any]:
        """Return the stored description. Raises: DamagedError where it cannot be read or is not of this directory."""
        record = self.read_json(DESCRIPTION)
        check_record(record, self.folder)
        return record

    def manifest(self) -> Manifest | None:
        """Return the manifest, or None where the run is not complete.

        Raises: DamagedError where the manifest cannot be read, or a file is missing or has another size than it says.
        """
        manifest = self.read_manifest()
        for name, record in (manifest.files if manifest else {}).items():
            problem = record.difference(f"{self.folder}/{name}")
            if problem:
                raise self.damaged(name, problem)
        return manifest

    def read_manifest(self) -> Manifest | None:
        """Return the manifest without comparing the files with it, or None where there is none."""
        return self._manifest(manifest_name(self.manifest_number()))

    def first_manifest(self) -> Manifest | None:
        """Return the manifest with which the run was completed, whatever was removed or added since."""
        return self._manifest(MANIFEST)

    def _manifest(self, name: str) -> Manifest | None:
        data = self._data(name)
        try:
            manifest = None if data is None else Manifest.from_bytes(data, self.folder / name)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self.damaged(name, "it is not a manifest, or not as it was written") from error
        if manifest and manifest.run not in ("", str(self)):
            self.record()  # raises where the whole directory is another run's
            raise self.damaged(name, f"it belongs to {manifest.run}")
        return manifest

    def manifest_number(self) -> int:
        """Return the number of the manifest that counts."""
        number = 1
        while os.path.exists(f"{self.folder}/{manifest_name(number + 1)}"):  # noqa: PTH110 (as in `exists`)
            number += 1
        return number

    def write(self, name: str, data: bytes) -> None:
        """Write one of the run's files, whole or not at all."""
        write_atomically(self.folder / name, data)

    def write_manifest(self, manifest: Manifest, files: Mapping[str, FileRecord]) -> None:
        """Write the manifest of some files: the first one, or one more where others follow the first."""
        number, data = self.manifest_number(), self._manifest_of(manifest, files)
        self.write(manifest_name(number if number == 1 else number + 1), data)

    def _manifest_of(self, manifest: Manifest, files: Mapping[str, FileRecord]) -> bytes:
        return dataclasses.replace(manifest, files=dict(files), run=str(self)).to_bytes()

    def amended(self, files: Iterable[str] = (), without: Iterable[str] = ()) -> None:
        """Add another manifest, which lists more files or fewer, to a complete run. The first stays as it is."""
        while (manifest := self.read_manifest()) is not None:
            listed = {**manifest.files, **{name: FileRecord.of(self.path(name)) for name in files}}
            data = self._manifest_of(manifest, {name: listed[name] for name in listed if name not in set(without)})
            with explain_os_errors("write in", self.folder), contextlib.suppress(FileExistsError):
                return create_file(self.path(manifest_name(self.manifest_number() + 1)), data)
        raise EnvironmentFailure(f"There is no {MANIFEST} in {self.folder}.")

    def remove_manifests(self) -> None:
        """Remove the manifests: the run no longer counts as complete."""
        for path in [*self.folder.glob("manifest_*.json"), self.folder / MANIFEST]:
            path.unlink(missing_ok=True)

    def left_out(self) -> list[str]:
        """Return the files that a complete run had when it was completed, and does not have here."""
        manifest, first = self.read_manifest(), self.first_manifest()
        return [] if manifest is None or first is None else sorted(first.files.keys() - manifest.files.keys())

    def why_no_state(self) -> str:
        """Return a sentence on why a run holds no state."""
        return f"{self} holds no state: {LEFT_OUT}" if self.left_out() else f"{self} holds no state yet."

    def read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file. Raises: EnvironmentFailure where it is missing; DamagedError."""
        tree = self._parsed(name)
        if tree is None:
            raise EnvironmentFailure(f"There is no {name} in {self.folder}.")
        return tree

    def _parsed(self, name: str) -> dict[str, Any] | None:
        """Return the object in a JSON file, or None where there is no such file. Raises: DamagedError."""
        data = self._data(name)
        if data is None:
            return None
        try:
            return sealed_json.from_bytes(data, self.folder / name)
        except ValueError as error:
            raise self.damaged(name, str(error)) from error

    def _data(self, name: str) -> bytes | None:
        """Return the content of a file, or None where there is none. Raises: DamagedError for anything but a file."""
        try:
            return read_file(f"{self.folder}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            if (self.folder / name).is_symlink():
                raise self.damaged(name, "it is a link to nothing") from None
            return None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ELOOP, errno.ENXIO):
                raise self.damaged(name, error.strerror or "it cannot be read") from error
            kind = ClosedError if is_denied(error) else EnvironmentFailure
            raise kind(f"Cannot read {self.folder / name}: {reason(error)}.") from error

    def damaged(self, name: str, why: str) -> DamagedError:
        """Return the error for a damaged file of the run."""
        return DamagedError(f"{self.folder / name} is damaged: {why}.\n{self.how_to_mend()}")

    def how_to_mend(self) -> str:
        """Return a sentence with the command that mends the run."""
        return f"To set it aside and compute it again: {PROGRAM} verify {self.location} --mend"


def manifest_name(number: int) -> str:
    """Return the name of a manifest by its number, from 1."""
    return MANIFEST if number == 1 else f"manifest_{number}.json"
