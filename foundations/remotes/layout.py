"""The format of a remote (docs/remotes.md): names of objects, manifests of runs, and the file of small files."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foundations.description.address import Location, canonical_json
from foundations.errors import EnvironmentFailure
from foundations.storage import sealed_json
from foundations.storage.amendments import why_not_amended
from foundations.storage.manifest import FileRecord, Manifest
from foundations.storage.run import CHECKPOINT, DAMAGED, FAILURE, LOG, OUTPUT

FORMAT = 1
MARKER = f"format-{FORMAT}"
MARKER_TEXT = b"A remote of open_prune, format 1: docs/remotes.md.\n"
MOST_OF_A_MANIFEST = 1 << 22
"""The size limit of a manifest of a remote, in bytes."""
MOST_OF_A_SIGNATURE = 1 << 10
"""The size limit of a signature, in bytes."""
MOST_OF_A_SMALL_OBJECT = 1 << 24
"""The size limit of a file of small files, a result of a measure and a plug-in, in bytes."""
_SMALL = 1 << 18
"""Files of at most so many bytes are in the file of small files."""
_HEADER = 512
_LOCATION = r"runs/(?P<location>(?:train|import)_[0-9a-f]{32}/replicate_\d{1,15}/(?:main|branch_[\w-]+_[0-9a-f]{32}))"
RUN_MANIFEST = re.compile(rf"{_LOCATION}/(?P<number>[1-9]\d{{0,8}})(?:-(?P<sha256>[0-9a-f]{{64}}))?\.manifest", re.A)
RUN_FILES = re.compile(rf"{_LOCATION}/(?P<digest>[0-9a-f]{{64}})\.tar", re.A)
RUN_SIGNATURE = re.compile(
    rf"(?P<manifest>{_LOCATION}/[1-9]\d{{0,8}}(?:-[0-9a-f]{{64}})?)\.(?P<key>[0-9a-f]{{32}})\.signature", re.A
)
RUN_MEASURE = re.compile(rf"{_LOCATION}/(?P<measure>\w{{1,80}})\.(?P<digest>[0-9a-f]{{32}})\.measure", re.A)
OBJECT = re.compile(r"objects/(?P<sha256>[0-9a-f]{64})")
DATASET = re.compile(r"datasets/(?P<name>[\w-]{1,100})/(?P<fingerprint>[0-9a-f]{64})\.manifest", re.A)
OTHER_FORMAT = re.compile(r"format-(\d{1,9})", re.A)
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_NEVER_SENT = re.compile(
    rf"manifest(_\d+)?\.json|{DAMAGED}.*|" + "|".join(map(re.escape, (CHECKPOINT, LOG, OUTPUT, FAILURE)))
)
_PLUGIN = re.compile(r"[\w-]{1,100}")


class CorruptError(ValueError):
    """An object of a remote is not what it must be; the message is the reason."""

    def __init__(self, why: str, data: bytes | None = None) -> None:
        """Take the reason, and the object's bytes where they were read."""
        super().__init__(why)
        self.data = data


def manifest_name(location: Location, number: int, content: bytes | None = None) -> str:
    """Return the name of a run's manifest. content: where the service ignores conditions, the manifest itself."""
    digest = "" if content is None else f"-{hashlib.sha256(content).hexdigest()}"
    return f"runs/{location}/{number}{digest}.manifest"


def signature_name(manifest: str, key: str) -> str:
    """Return the name of the signature of a manifest by a public key. manifest: the name of its object."""
    return f"{manifest.removesuffix('.manifest')}.{key_digest(key)}.signature"


def key_digest(key: str) -> str:
    """Return the digest by which names of signatures tell public keys apart."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def object_name(sha256: str) -> str:
    """Return the name of the object with some content."""
    return f"objects/{sha256}"


def files_name(location: Location, digest: str) -> str:
    """Return the name of a file of small files."""
    return f"runs/{location}/{digest}.tar"


def files_digest(records: Mapping[str, FileRecord]) -> str:
    """Return the digest that names a file of small files: of their names, sizes and SHA-256."""
    tree = {name: [record.size, record.sha256] for name, record in records.items()}
    return hashlib.sha256(canonical_json(tree).encode()).hexdigest()


def split_by_size(records: Mapping[str, FileRecord]) -> tuple[dict[str, FileRecord], dict[str, FileRecord]]:
    """Return the small files of a run, which travel together, and the others, each an object of its own."""
    small: dict[str, FileRecord] = {}
    total = 0
    for name, record in sorted(records.items(), key=lambda item: (item[1].size, item[0])):
        total += record.size + 2 * _HEADER
        if record.size > _SMALL or total > MOST_OF_A_SMALL_OBJECT - tarfile.RECORDSIZE:
            break
        small[name] = record
    return small, {name: record for name, record in records.items() if name not in small}


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return the one tar of some files: uncompressed, in the order of names, without owners and times."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(files.items()):
            tar.addfile(_tar_header(name, len(data)), io.BytesIO(data))
    return content.getvalue()


def packed_size(records: Mapping[str, FileRecord]) -> int:
    """Return the size of the tar of some files."""
    blocks = sum(1 + -(-record.size // _HEADER) for record in records.values()) + 2
    return -(-blocks * _HEADER // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def unpacked(data: bytes, records: Mapping[str, FileRecord]) -> dict[str, bytes]:
    """Return the files of a tar. Its headers are not trusted: their places and bytes follow from the records.

    Raises: CorruptError where a byte is not as `packed` writes it.
    """
    files, at = {}, 0
    for name, record in sorted(records.items()):
        found = data[at + _HEADER : at + _HEADER + record.size]
        if len(found) != record.size or hashlib.sha256(found).hexdigest() != record.sha256:
            raise CorruptError(f"{name} in it is not the file of its manifest")
        files[name] = found
        at += _HEADER * (1 + -(-record.size // _HEADER))
    if packed(files) != data:
        raise CorruptError("it is not the file that its manifest describes")
    return files


def _tar_header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    return header


@dataclass(frozen=True)
class RemoteManifest:
    """The manifest of a run in a remote: the run's own, and the objects that hold its files.

    A file that is in none of the tars is the object of its SHA-256.
    """

    location: Location
    first: bytes
    """The run's `manifest.json`, with the SHA-256 of every file with which the run was completed."""
    manifest: Manifest
    """The same, with the files that the remote has."""
    tars: tuple[tuple[str, ...], ...]
    """The names of the files in each tar."""
    plugins: dict[str, FileRecord] = field(default_factory=dict)
    """The files of the plug-ins that computed the run, by the plug-in's name."""

    def tar_records(self) -> dict[str, dict[str, FileRecord]]:
        """Return the records of the files of each tar, by the tar's digest."""
        tars = [{name: self.manifest.files[name] for name in names} for names in self.tars]
        return {files_digest(records): records for records in tars}

    def single(self) -> dict[str, FileRecord]:
        """Return the files that are objects of their own."""
        inside = {name for names in self.tars for name in names}
        return {name: record for name, record in self.manifest.files.items() if name not in inside}

    def objects(self) -> dict[str, int]:
        """Return the names and sizes of all objects that the run needs."""
        records = [*self.single().values(), *self.plugins.values()]
        tars = {files_name(self.location, digest): packed_size(files) for digest, files in self.tar_records().items()}
        return {**{object_name(record.sha256): record.size for record in records}, **tars}

    def to_bytes(self) -> bytes:
        """Return the object's content."""
        tree = {
            "remote_format": FORMAT,
            "run": str(self.location),
            "manifest": self.first.decode(),
            "files": _tree(self.manifest.files),
            "tars": [sorted(names) for names in self.tars],
            "plugins": _tree(self.plugins),
        }
        return sealed_json.to_bytes(tree)

    @classmethod
    def from_bytes(cls, data: bytes, location: Location) -> RemoteManifest:
        """Read and check an object. Raises: CorruptError, also for one of a newer format."""
        try:
            tree = sealed_json.from_bytes(data, f"The manifest of {location}")
            if tree["remote_format"] != FORMAT:
                raise CorruptError(
                    f"it is of format {str(tree['remote_format'])[:20]!r}, and this version reads {FORMAT}"
                )
            if tree["run"] != str(location):
                raise CorruptError("it is the manifest of another run")
            first = tree["manifest"].encode()
            files, tars, plugins = _records(tree["files"]), tuple(map(_names, tree["tars"])), _records(tree["plugins"])
            found = cls(location, first, as_it_is(location, first, files), tars, plugins)
            _check(found)
            if found.to_bytes() != data:
                raise CorruptError("it is not as open_prune writes it")
        except CorruptError:
            raise
        except EnvironmentFailure as error:
            raise CorruptError("it is of a newer format, which a newer version reads") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptError("it is not a manifest, or not as it was written") from error
        return found


def as_it_is(location: Location, first: bytes, files: Mapping[str, FileRecord]) -> Manifest:
    """Return the manifest of a run with some files. first: its `manifest.json`.

    Raises: CorruptError where these are not of one run; otherwise as `Manifest.from_bytes`.
    """
    manifest = Manifest.from_bytes(first, f"The manifest of {location}")
    if manifest.run not in ("", str(location)):
        raise CorruptError("it holds the manifest of another run")
    if problem := why_not_amended(files, manifest):
        raise CorruptError(problem)
    return dataclasses.replace(manifest, files=dict(files), run=str(location))


def _tree(records: Mapping[str, FileRecord]) -> dict[str, Any]:
    return {name: dataclasses.asdict(record) for name, record in records.items()}


def _names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("the files of a tar are a list of names")
    return tuple(names)


def _records(tree: Any) -> dict[str, FileRecord]:
    return {name: FileRecord.of_tree(record) for name, record in tree.items()}


def _check(found: RemoteManifest) -> None:
    manifest = found.manifest
    completed = Manifest.from_bytes(found.first)
    wrong = [name for name in (*manifest.files, *completed.files) if not is_file_of_a_run(name)]
    if wrong:
        raise CorruptError(f"it names a file that no run has: {wrong[0][:80]!r}")
    inside = [name for names in found.tars for name in names]
    if len(set(inside)) != len(inside) or not set(inside) <= manifest.files.keys() or not all(found.tars):
        raise CorruptError("its files of small files are not what the run's manifest lists")
    if any(packed_size(records) > MOST_OF_A_SMALL_OBJECT for records in found.tar_records().values()):
        raise CorruptError("a file of small files has more than 16 MiB")
    for name, record in found.plugins.items():
        if not _PLUGIN.fullmatch(name) or record.size > MOST_OF_A_SMALL_OBJECT:
            raise CorruptError(f"it names a plug-in that cannot be kept: {name[:80]!r}")


def is_file_of_a_run(name: str) -> bool:
    """Return whether a file of this name may travel: none that leads elsewhere, nor a log, a manifest, a checkpoint."""
    return bool(_FILE.fullmatch(name)) and not _NEVER_SENT.fullmatch(name)


def dataset_to_bytes(name: str, fingerprint: str, records: Mapping[str, FileRecord]) -> bytes:
    """Return the manifest of a prepared dataset."""
    facts = {"dataset": name, "fingerprint": fingerprint, "files": _tree(records)}
    return sealed_json.to_bytes({"remote_format": FORMAT, **facts})


def dataset_from_bytes(data: bytes, name: str, fingerprint: str) -> dict[str, FileRecord]:
    """Return the records of the files of a prepared dataset. Raises: CorruptError."""
    try:
        records = _records(sealed_json.from_bytes(data)["files"])
        if dataset_to_bytes(name, fingerprint, records) == data and all(map(_FILE.fullmatch, records)):
            return records
    except (EnvironmentFailure, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CorruptError("it is not the manifest of this dataset, as open_prune writes it", data)
