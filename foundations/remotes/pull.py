"""Receiving runs from a remote. Nothing that arrives is trusted: it is checked in a folder apart, then published.

    <root>/.pulls/<remote>/<location with dots>/    a run that is being received
    <root>/.pulls/<remote>/corrupt/                 objects that are not what they must be

A pull that was cut finds what it has received there, checks it again, and goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foundations.description.address import Location
from foundations.errors import OpenPruneError
from foundations.registry import KEPT
from foundations.remotes import layout
from foundations.remotes.arrivals import Arrivals, check_arrived, described
from foundations.remotes.layout import CorruptError, RemoteManifest
from foundations.remotes.listing import Listing, read_manifest, read_whole
from foundations.remotes.measures import check_measure
from foundations.remotes.signed import Signers
from foundations.remotes.storage import Storage
from foundations.remotes.transfer import Source, Transferred, at_once, needed_files, sources_in
from foundations.reporter import Reporter
from foundations.storage.locks import is_held
from foundations.storage.manifest import FileRecord, Manifest, manifest_name
from foundations.storage.root_format import check_format
from foundations.storage.run import DESCRIPTION, MANIFEST, STATE, Run
from foundations.storage.store import MEASURES_FOLDER


@dataclasses.dataclass(frozen=True)
class Head:
    """A run of a remote without its larger files."""

    name: str
    """The name of its manifest in the remote."""
    manifest: RemoteManifest
    record: dict[str, Any]
    """Its description."""
    small: dict[str, bytes]
    """Its small files."""


class Pull:
    """Receives runs from one remote into one root."""

    def __init__(
        self,
        root: Path,
        storage: Storage,
        listing: Listing,
        reporter: Reporter,
        trusted_file: Path | None = None,
    ) -> None:
        """Take the listing of the remote. A root of a newer format is refused.

        trusted_file: the list of trusted keys, one of which must have signed a run; None to receive all.
        """
        check_format(root)
        self._signers = None if trusted_file is None else Signers(storage, listing, trusted_file)
        self._root, self._storage, self._listing, self._reporter = root, storage, listing, reporter
        self._complete = listing.complete()
        self._arrivals = Arrivals(root, storage)
        self.lock_path = self._arrivals.lock_path
        self.found = Transferred()
        self._lock = threading.Lock()
        self._named: set[str] = set()

    def is_here(self, location: Location) -> bool:
        """Return whether the root has the complete run. A damaged one counts: `verify --mend` is for those."""
        return Run(self._root, location).is_published

    def has(self, location: Location) -> bool:
        """Return whether the remote has the complete run."""
        return location in self._complete

    def clear(self) -> None:
        """Remove what was received and is not needed. What is corrupt stays."""
        self._arrivals.clear()

    def receive(self, asked: Iterable[Location], *, alone: bool = False, shallow: bool = False) -> Transferred:
        """Receive runs and, unless `alone`, those that they depend on, as far as they are not here.

        shallow: of the latter, only the direct sources, and only the states that are needed.
        """
        wave: dict[Location, set[int] | None] = dict.fromkeys(asked)
        seen: set[Location] = set()
        what = f"pull from {self._storage.url}"
        while wave:
            seen |= wave.keys()
            needed: dict[Location, set[int]] = {}
            for location, sources in at_once(self._receive, wave.items(), self._reporter, what):
                _ = location
                for source in sources:
                    states = needed.setdefault(source.location, set())
                    states |= set() if source.iteration is None else {source.iteration}
            is_last = alone or (shallow and None not in wave.values())
            wave = {
                location: states if shallow else None
                for location, states in needed.items()
                if location not in seen and not is_last
            }
        if not alone:
            self._receive_measures(seen)
        return self.found

    def refused(self, locations: Iterable[Location]) -> dict[Location, str]:
        """Return, of some runs, those that nobody whom the user trusts has signed, and a sentence on each."""
        found = {}
        for location in locations:
            run = self._complete.get(location)
            why = self._signers.why_refused(run) if self._signers and run else ""
            if why:
                found[location] = f"{location} was refused: {why}."
        return found

    def heads(self, locations: Iterable[Location]) -> dict[Location, Head]:
        """Return the descriptions and small files of runs, signed or not. Corrupt ones are named and missing."""
        found = {}
        for location, head in at_once(self._head_or_none, locations, self._reporter, "read descriptions"):
            if head is not None:
                found[location] = head
        return found

    def _head_or_none(self, location: Location) -> Head | None:
        try:
            name = self._complete[location].latest
            return self._head(name, self._manifest(name, location))
        except _NamedError:
            return None

    def _receive(self, item: tuple[Location, set[int] | None]) -> list[Source]:
        """Receive one run; return its sources."""
        location, states = item
        run = Run(self._root, location)
        try:
            if self.is_here(location):
                self._note(self.found.present, location)
                return sources_in(run.record(), location.replicate)
            if location not in self._complete:
                self._note(self.found.notes, f"{location} is neither here nor in the remote; others depend on it.")
                return []
            if is_held(run.lock_path):
                self._note(self.found.notes, f"{location} is being computed here, so it was not pulled.")
                return []
            head = self._head(*self._counting(location))
            if states is not None:
                head = _without_states(head, states)
            if self._receive_files(head):
                self._note(self.found.sent, location)
            else:
                self._explain_taken(location)
            return sources_in(head.record, location.replicate)
        except _NamedError as error:
            if str(error).startswith("objects/"):
                self._note(self.found.problems, f"{location} was not pulled: it needs {error}.")
            return []
        except (OpenPruneError, ValueError) as error:
            if not self.is_here(location):
                raise
            self._note(self.found.problems, str(error))
            return []

    def _explain_taken(self, location: Location) -> None:
        if self.is_here(location):
            self._note(self.found.present, location)
        else:
            self._note(self.found.problems, f"{location} is incomplete here and stays so; to pull it, remove it.")

    def _note(self, where: list[Any], what: Any) -> None:
        with self._lock:
            where.append(what)

    def _corrupt(self, name: str, error: CorruptError, path: Path | None = None) -> _NamedError:
        """Name a corrupt object once, keep what arrived of it, and return the exception that ends the run's pull."""
        with self._lock:
            is_new = name not in self._named
            self._named.add(name)
        if is_new:
            kept = self._arrivals.keep_corrupt(name, path if path is not None else error.data)
            where = f" It is kept in {kept}" if kept else ""
            self._note(self.found.problems, f"{self._storage.url}/{name} is corrupt: {error}.{where}")
        return _NamedError(name)

    def _counting(self, location: Location) -> tuple[str, RemoteManifest]:
        """Return the manifest of a run that counts, and its name: the latest that is signed, if it must be."""
        run = self._complete[location]
        if self._signers is None:
            return run.latest, self._manifest(run.latest, location)
        why = self._signers.why_refused(run) or "no signature of it is valid"
        for name in run.newest_first():
            for signature in self._signers.by_trusted(run, name):
                try:
                    manifest = self._manifest(name, location)
                    signer = self._signers.verified(manifest, signature)
                except _NamedError:
                    break
                except CorruptError as error:
                    self._corrupt(signature, error)
                    continue
                if name != run.latest:
                    self._note(self.found.notes, f"{location} is as {signer} signed it; what was added since is not.")
                return name, manifest
        self._note(self.found.problems, f"{location} was refused: {why}.")
        raise _NamedError(str(location))

    def _manifest(self, name: str, location: Location) -> RemoteManifest:
        try:
            return read_manifest(self._storage, name, self._listing.sizes[name], location)
        except CorruptError as error:
            raise self._corrupt(name, error) from None

    def _head(self, name: str, manifest: RemoteManifest) -> Head:
        """Return a run without its larger files. name: of its manifest in the remote."""
        small: dict[str, bytes] = {}
        location = manifest.location
        for digest, records in manifest.tar_records().items():
            small |= self._tar(layout.files_name(location, digest), records, location)
        if DESCRIPTION not in small and DESCRIPTION in manifest.manifest.files:
            record = manifest.manifest.files[DESCRIPTION]
            small[DESCRIPTION] = self._small(layout.object_name(record.sha256), record)
        try:
            return Head(name, manifest, described(small.get(DESCRIPTION, b""), location), small)
        except CorruptError as error:
            raise self._corrupt(name, CorruptError(str(error), manifest.to_bytes())) from None

    def _tar(self, name: str, records: Mapping[str, FileRecord], location: Location) -> dict[str, bytes]:
        staged = self._arrivals.staged(location, records)
        if staged is not None:
            return staged
        size = layout.packed_size(records)
        try:
            data = self._sized(name, size)
            try:
                return layout.unpacked(data, records)
            except CorruptError as error:
                raise CorruptError(str(error), data) from error
        except CorruptError as error:
            raise self._corrupt(name, error) from None

    def _sized(self, name: str, size: int) -> bytes:
        """Return an object that must have a size. Raises: CorruptError, before reading where it has another."""
        found = self._listing.sizes.get(name)
        if found != size:
            raise CorruptError("it is missing" if found is None else f"it has {found:,} bytes, not {size:,}")
        data = read_whole(self._storage, name, size, layout.MOST_OF_A_SMALL_OBJECT)
        with self._lock:
            self.found.size += size
        return data

    def _small(self, name: str, record: FileRecord) -> bytes:
        try:
            data = self._sized(name, record.size)
            if hashlib.sha256(data).hexdigest() != record.sha256:
                raise CorruptError("its SHA-256 is not the one in its name", data)
        except CorruptError as error:
            raise self._corrupt(name, error) from None
        return data

    def _receive_files(self, head: Head) -> bool:
        """Receive the other files of a run, check the whole, and publish it; return False if the place is taken."""
        manifest, location = head.manifest, head.manifest.location
        folder = self._arrivals.folder(location)
        self._arrivals.write(folder, head.small)
        for name, record in manifest.single().items():
            if name not in head.small:
                self._receive_object(folder / name, record)
        for name, record in manifest.plugins.items():
            self._receive_plugin(name, record, head)
        try:
            check_arrived(folder, manifest.manifest, location)
        except CorruptError as error:
            raise self._corrupt(head.name, error) from None
        self._arrivals.write(folder, {MANIFEST: manifest.first, **amended(manifest)})
        return Run(self._root, location).adopt(folder)

    def _receive_object(self, path: Path, record: FileRecord) -> None:
        name = layout.object_name(record.sha256)
        found = self._listing.sizes.get(name)
        if found != record.size:
            why = "it is missing" if found is None else f"it has {found:,} bytes, not the {record.size:,} of a manifest"
            raise self._corrupt(name, CorruptError(why))
        try:
            received = self._arrivals.receive(name, path, record)
        except CorruptError as error:
            raise self._corrupt(name, error, path) from None
        with self._lock:
            self.found.size += received

    def _receive_plugin(self, name: str, record: FileRecord, head: Head) -> None:
        """Keep a plug-in's file under the root. It is executed only as `foundations.plugins.kept` allows."""
        named = {**head.record.get("plugins", {}), **head.record.get("main", {}).get("plugins", {})}
        if named.get(name, {}).get("sha256") != record.sha256:
            why = f"it has the plug-in {name}, which is not in the run's description"
            error = CorruptError(why, head.manifest.to_bytes())
            raise self._corrupt(head.name, error)
        path = self._root / KEPT / record.sha256 / f"{name}.py"
        if not path.exists():
            self._arrivals.publish(path, self._small(layout.object_name(record.sha256), record))

    def _receive_measures(self, locations: Iterable[Location]) -> None:
        """Receive the results of measures of some runs that are not here."""

        def receive(item: tuple[str, Location, str, str, Path]) -> None:
            name, location, measure, address, path = item
            try:
                data = read_whole(self._storage, name, self._listing.sizes[name], layout.MOST_OF_A_SMALL_OBJECT)
                check_measure(data, location, measure, address)
            except CorruptError as error:
                self._corrupt(name, error)
                return
            self._arrivals.publish(path, data)
            with self._lock:
                self.found.others += 1

        found = [
            (name, location, measure, address, self._root / MEASURES_FOLDER / measure / f"{address}.json")
            for location in locations
            if location in self._complete and self.is_here(location)
            for name, (measure, address) in self._complete[location].measures.items()
        ]
        missing = [each for each in found if not each[-1].exists()]
        if self._signers is not None and missing:
            self.found.notes.append(f"Results of measures are not signed, so {len(missing)} stayed in the remote.")
            return
        for _ in at_once(receive, missing, self._reporter, "pull", "results"):
            pass

    def receive_dataset(self, name: str, fingerprint: str) -> Path | None:
        """Receive the files of a prepared dataset into `<name>` of a folder apart; return that, or None if corrupt."""
        where = self._listing.datasets[name, fingerprint]
        folder = self._arrivals.place / f"dataset.{fingerprint}"
        try:
            data = read_whole(self._storage, where, self._listing.sizes[where], layout.MOST_OF_A_MANIFEST)
            records = layout.dataset_from_bytes(data, name, fingerprint)
            (folder / name).mkdir(parents=True, exist_ok=True)
            for file, record in records.items():
                self._receive_object(folder / name / file, record)
        except CorruptError as error:
            self._corrupt(where, error)
            return None
        except _NamedError:
            return None
        return folder

    def finish(self) -> None:
        """Clear, and list the names in the remote that are not those of a remote."""
        for name in self._listing.unknown:
            hostile = ".." in name.split("/") or name.startswith("/") or "\\" in name or not name.isprintable()
            if hostile or name.split("/")[0] in ("runs", "objects", "datasets"):
                self.found.problems.append(f"{self._storage.url}: {name!r} is not a name that a remote has; ignored.")
            else:
                self.found.notes.append(f"{self._storage.url}: {name!r} is not of a remote; ignored.")
        self.clear()


class _NamedError(Exception):
    """An object is corrupt, and was named to the user."""


def _without_states(head: Head, iterations: set[int]) -> Head:
    """Return a run with those of its states that others need."""
    manifest, epoch = head.manifest, int(head.record["iterations_per_epoch"])
    files = manifest.manifest.files
    names = needed_files(files, epoch, iterations)
    reduced = dataclasses.replace(
        manifest,
        manifest=dataclasses.replace(manifest.manifest, files={name: files[name] for name in names}),
        tars=tuple(filter(None, (tuple(name for name in tar if name in names) for tar in manifest.tars))),
    )
    return Head(head.name, reduced, head.record, {name: data for name, data in head.small.items() if name in names})


def amended(manifest: RemoteManifest) -> dict[str, bytes]:
    """Return the manifest that lists the files of a run that arrives, by its name; none where the first one does."""
    listed = manifest.manifest
    is_as_completed = Manifest.from_bytes(manifest.first).files == listed.files
    return {} if is_as_completed else {manifest_name(2): listed.to_bytes()}


def view(head: Head, root: Path) -> None:
    """Write the small files of a run under another root, without states, so that it can be listed there."""
    manifest = head.manifest.manifest
    names = {name for name in head.small if not STATE.fullmatch(name)}
    folder = head.manifest.location.under(root)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(head.small[name])
    files = {name: record for name, record in manifest.files.items() if name in names}
    (folder / MANIFEST).write_bytes(dataclasses.replace(manifest, files=files).to_bytes())
