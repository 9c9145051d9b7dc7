"""Files that have arrived from a remote and are not published yet: written, checked, continued, kept aside."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundations.description.address import Location
from foundations.description.desc import check_record
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import create_file, explain_os_errors, make_folder, read_file, sha256_of_file
from foundations.metrics import Metrics
from foundations.parts import PART
from foundations.remotes.layout import CorruptError
from foundations.remotes.storage import MissingObject, Storage
from foundations.storage import sealed_json, tensor_files
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import DESCRIPTION, METRICS, SPARSITY

FOLDER = ".pulls"
_CORRUPT = "corrupt"
_BLOCK = 1 << 24
_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Arrivals:
    """The folder of a root for what arrives from one remote."""

    def __init__(self, root: Path, storage: Storage) -> None:
        self._storage = storage
        key = hashlib.sha256(storage.url.encode()).hexdigest()[:16]
        self.place = root / FOLDER / key
        self.lock_path = root / ".locks" / f"pull.{key}.lock"
        """The lock of the process that receives from this remote."""

    def folder(self, location: Location) -> Path:
        """Return the folder for a run that arrives; make it."""
        found = self._folder_of(location)
        with explain_os_errors("make", found):
            if found.is_symlink():
                found.unlink()
            found.mkdir(parents=True, exist_ok=True)
        return found

    def _folder_of(self, location: Location) -> Path:
        return self.place / str(location).replace("/", ".")

    def staged(self, location: Location, records: Mapping[str, FileRecord]) -> dict[str, bytes] | None:
        """Return the files of a run that arrived before the pull was cut; None unless all are there and whole."""
        folder, found = self._folder_of(location), {}
        for name, record in records.items():
            try:
                data = read_file(folder / name) if (folder / name).stat().st_size == record.size else b""
            except OSError:
                return None
            if len(data) != record.size or hashlib.sha256(data).hexdigest() != record.sha256:
                return None
            found[name] = data
        return found

    def write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Write small files into the folder of a run that arrives."""
        for name, data in files.items():
            if (folder / name).is_symlink():
                (folder / name).unlink()
            with explain_os_errors("write", folder / name), open(os.open(folder / name, _NEW, 0o666), "wb") as file:  # noqa: PTH123
                file.truncate()
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def receive(self, name: str, path: Path, record: FileRecord) -> int:
        """Receive an object of a listed size into a file, or go on with it; return the number of bytes that came.

        Raises: CorruptError where its SHA-256 is another one; what arrived is at `path` then.
        """
        with contextlib.suppress(OSError):
            if not record.difference(str(path), of_bytes=True):
                return 0
        part = path.with_name(f"{path.name}{PART}")
        begun = part.stat().st_size if part.is_file() and not part.is_symlink() else 0
        came = self._append(name, part, begun if begun < record.size else 0, record)
        if sha256_of_file(part) != record.sha256 and begun:  # the beginning may be at fault, which is ours
            came += self._append(name, part, 0, record)
        is_right = sha256_of_file(part) == record.sha256
        part.replace(path)
        if not is_right:
            raise CorruptError("its SHA-256 is not the one in its name")
        return came

    def _append(self, name: str, part: Path, start: int, record: FileRecord) -> int:
        with explain_os_errors("write", part), open(os.open(part, _NEW, 0o666), "r+b") as file:  # noqa: PTH123
            file.truncate(start)
            file.seek(start)
            for at in range(start, record.size, _BLOCK):
                size = min(_BLOCK, record.size - at)
                try:
                    data = self._storage.read(name, at, size)
                except MissingObject as error:
                    raise CorruptError("it is not there any longer") from error
                if len(data) != size:
                    raise CorruptError("it ends before its listed size")
                file.write(data)
                file.flush()
            os.fsync(file.fileno())
        return record.size - start

    def publish(self, path: Path, data: bytes) -> None:
        """Write a file of the root itself whole, unless it is there."""
        with explain_os_errors("write", path), contextlib.suppress(FileExistsError):
            make_folder(path.parent)
            create_file(path, data)

    def keep_corrupt(self, name: str, content: Path | bytes | None) -> Path | None:
        """Keep what arrived of a corrupt object aside, and return where; None where nothing arrived."""
        path = self.place / _CORRUPT / re.sub(r"[^\w.-]", "_", name)[-180:].lstrip(".")
        with explain_os_errors("write", path):
            if isinstance(content, Path):
                if not content.is_file():
                    return None
                path.parent.mkdir(parents=True, exist_ok=True)
                content.replace(path)
            elif content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.write(path.parent, {path.name: content})
            else:
                return None
        return path

    def clear(self) -> None:
        """Remove what arrived and was not published, except what is corrupt."""
        for each in self.place.glob("*"):
            if each.name != _CORRUPT and each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
        for folder in (self.place, self.place.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


def described(data: bytes, location: Location) -> dict[str, Any]:
    """Return the description of a run that arrived, which must hash to its address. Raises: CorruptError."""
    try:
        record = sealed_json.from_bytes(data, DESCRIPTION)
        check_record(record, Path("/", str(location)))
        if "main" in record and record["main"]["digest"] != location.training.rpartition("_")[2]:
            raise ValueError("another training")
        for name, source in record.get("sources", {}).items():
            found = Location.of(source["training"], source.get("replicate", location.replicate), source["name"])
            if record["canonical"][name]["run"] != found.digest:
                raise ValueError("another source")
    except (EnvironmentFailure, DamagedError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError("the description in it is not of this run") from error
    return record


def check_arrived(folder: Path, manifest: Manifest, location: Location) -> None:
    """Check the files of a run that arrived as those of any foreign run. Raises: CorruptError."""
    found = {each.name for each in folder.iterdir()}
    for name, record in manifest.files.items():
        difference = record.difference(f"{folder}/{name}")
        if difference or (folder / name).is_symlink():
            raise CorruptError(f"{name}: {difference or 'it is a link'}")
        owner = tensor_files.owner(folder / name) if name.endswith(".safetensors") else ""
        if owner not in ("", f"{location}/{name}"):
            raise CorruptError(f"{name} was written as another file")
    for name in found - manifest.files.keys():
        (folder / name).unlink()
    if METRICS in manifest.files:
        _check_results(read_file(folder / METRICS), manifest)
    if SPARSITY in manifest.files:
        with _as_corrupt(f"{SPARSITY} cannot be read"):
            sealed_json.from_bytes(read_file(folder / SPARSITY))


def _check_results(data: bytes, manifest: Manifest) -> None:
    """Check that the results of a manifest are the last values of the metrics."""
    with _as_corrupt("its metrics cannot be read"):
        metrics = Metrics.from_csv(data.decode(errors="replace"))
    last = {name: metrics.last(name) for name in metrics.names()}
    for name in last.keys() & manifest.results.keys():
        value, claimed = last[name], manifest.results[name]
        if claimed is not None and claimed != value:
            raise CorruptError(f"it claims {name} {claimed}, and its metrics end at {value}")


@contextlib.contextmanager
def _as_corrupt(why: str) -> Iterator[None]:
    try:
        yield
    except (DamagedError, EnvironmentFailure, ValueError, OSError) as error:
        raise CorruptError(why) from error
