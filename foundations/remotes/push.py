"""Sending complete runs to a remote. Objects first, the manifest last: what has a manifest is whole."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure, OpenPruneError
from foundations.files import explain_os_errors, read_file, sha256_of_file
from foundations.packs import as_plain_file
from foundations.plugins.kept import kept_source
from foundations.registry import Plugin
from foundations.remotes import layout
from foundations.remotes.layout import CorruptError, RemoteManifest
from foundations.remotes.listing import Listing, read_manifest
from foundations.remotes.measures import measure_files
from foundations.remotes.storage import Storage
from foundations.remotes.transfer import Transferred, at_once, needed_files, sources_in
from foundations.reporter import Reporter
from foundations.storage.manifest import NOT_A_MANIFEST, FileRecord, Manifest
from foundations.storage.run import MANIFEST, Run
from foundations.storage.signatures import public_key, sign_manifest

_MOST_TRIES = 100
"""Number of processes that may publish a manifest of one run before this one, while it tries."""
ONLY_COMPLETE = "is {} and stays here: only complete runs travel."


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A run to push."""

    run: Run
    first: bytes
    """Its `manifest.json`."""
    manifest: Manifest
    """With the files to push."""
    known: Mapping[str, FileRecord]
    """All files that the run has, or had when it was completed."""
    plugins: tuple[Plugin, ...]


class Push:
    """Sends runs of one root to one remote."""

    def __init__(
        self, root: Path, storage: Storage, listing: Listing, reporter: Reporter, key_file: Path | None = None
    ) -> None:
        """Take the listing of the whole remote. key_file: the private key that signs the manifests, if any.

        Raises: EnvironmentFailure where something else is there, or there is no key.
        """
        self._key_file, self._key = key_file, "" if key_file is None else public_key(key_file)
        self._root, self._storage, self._listing, self._reporter = root, storage, listing, reporter
        if listing.sizes and not listing.is_remote and not listing.runs:
            raise EnvironmentFailure(f"{storage.url} holds other files. Choose an empty folder or prefix for a remote.")
        self.found = Transferred()
        self._to_push: list[_Chosen] = []
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._honours: bool | None = None

    def plan(self, runs: Iterable[Run], *, shallow: bool = False) -> list[Run]:
        """Choose runs, and those that they depend on. Return all that will be in the remote.

        shallow: of the runs that are not asked for, only the direct sources, and only the states that are needed.
        """
        chosen: dict[Location, _Chosen] = {}
        asked = {run.location: run for run in runs}
        waiting: list[tuple[Run, bool]] = [(run, True) for run in asked.values()]
        states: dict[Location, set[int]] = {}
        while waiting:
            run, is_asked = waiting.pop()
            if run.location in chosen:
                continue
            found = self._chosen(run)
            if found is None:
                continue
            chosen[run.location] = found
            if shallow and not is_asked:
                continue
            for source in sources_in(run.record(), run.location.replicate):
                states.setdefault(source.location, set()).update({source.iteration} - {None})  # type: ignore[arg-type]
                if source.location not in asked:
                    waiting.append((Run(self._root, source.location), False))
        for location, each in list(chosen.items()) if shallow else []:
            if location not in asked:
                chosen[location] = _without_states(each, states[location])
        self._to_push = list(chosen.values())
        return [each.run for each in self._to_push]

    def _chosen(self, run: Run) -> _Chosen | None:
        """Return a run with its manifest and plug-ins; None, with a sentence, where it cannot be pushed."""
        try:
            if not run.exists():
                self.found.notes.append(f"{run} {ONLY_COMPLETE.format('not here')}")
                return None
            manifest = run.manifest()
            if manifest is None:
                self.found.notes.append(f"{run} {ONLY_COMPLETE.format('incomplete')}")
                return None
            first, record = read_file(run.path(MANIFEST)), run.record()
            known = {**Manifest.from_bytes(first).files, **manifest.files}
            manifest = layout.as_it_is(run.location, first, manifest.files)
            strange = [name for name in manifest.files if not layout.is_file_of_a_run(name)]
            if strange:
                raise EnvironmentFailure(f"{run} has a file that cannot travel: {strange[0]!r}.")
        except OpenPruneError as error:
            self.found.problems.append(str(error))
            return None
        except (OSError, *NOT_A_MANIFEST) as error:
            why = str(error) if isinstance(error, CorruptError) else "it is not a manifest, or cannot be read"
            self.found.problems.append(str(run.damaged(MANIFEST, why)))
            return None
        plugins = {**record.get("plugins", {}), **record.get("main", {}).get("plugins", {})}
        named = tuple(Plugin(name, Path(), str(plugin["sha256"])) for name, plugin in plugins.items())
        return _Chosen(run, first, manifest, known, named)

    def number_to_send(self) -> int:
        """Return the number of planned runs that the remote does not have."""
        return sum(not getattr(self._listing.runs.get(each.run.location), "manifests", None) for each in self._to_push)

    def has_dataset(self, name: str, fingerprint: str) -> bool:
        """Return whether the remote has a prepared dataset."""
        return (name, fingerprint) in self._listing.datasets

    def execute(self) -> Transferred:
        """Send what the remote lacks, and return the outcome."""
        for _ in at_once(self._push_run, self._to_push, self._reporter, f"push to {self._storage.url}"):
            pass
        self._push_measures()
        return self.found

    def _honours_conditions(self) -> bool:
        """Return whether the service refuses to overwrite: asked once, with the marker, before anything is sent."""
        with self._asking:
            if self._honours is None:
                self._honours = self._probe()
            return self._honours

    def _probe(self) -> bool:
        storage = self._storage
        if not self._listing.is_remote:
            storage.create(layout.MARKER, layout.MARKER_TEXT)
        honours = storage.honours_conditions and not storage.create(layout.MARKER, layout.MARKER_TEXT)
        if not honours:
            self._reporter.say(
                f"{storage.url} ignores conditions on writing, so manifests are named by their content, too."
            )
        return honours

    def _push_run(self, chosen: _Chosen) -> None:
        location = chosen.run.location
        try:
            is_new, name = self._pushed_as_it_is(chosen)
        except CorruptError as error:
            with self._lock:
                self.found.problems.append(f"{self._storage.url}: {location}: {error}. It was not pushed.")
            return
        except DamagedError as error:
            with self._lock:
                self.found.problems.append(str(error))
            return
        with self._lock:
            (self.found.sent if is_new else self.found.present).append(location)
        if self._key_file is not None:
            try:
                self._sign(chosen, name, self._key_file)
            except CorruptError as error:
                with self._lock:
                    self.found.problems.append(f"{self._storage.url}: {location}: {error}. It was not signed.")

    def _pushed_as_it_is(self, chosen: _Chosen) -> tuple[bool, str]:
        """Send a run, without states that `gc` removes meanwhile; return as `_pushed`."""
        while True:
            try:
                return self._pushed(chosen)
            except EnvironmentFailure:
                manifest = chosen.run.read_manifest()
                there = manifest.files if manifest else {}
                left = {name: record for name, record in chosen.manifest.files.items() if there.get(name) == record}
                if left.keys() == chosen.manifest.files.keys():
                    raise
                chosen = dataclasses.replace(chosen, manifest=dataclasses.replace(chosen.manifest, files=left))

    def _pushed(self, chosen: _Chosen) -> tuple[bool, str]:
        """Send a run; return whether the remote lacked some of it, and the name of its manifest there."""
        location, there = chosen.run.location, self._listing.runs.get(chosen.run.location)
        plugins = {plugin.name: source for plugin in chosen.plugins if (source := kept_source(plugin, chosen.run.home))}
        for name in sorted({plugin.name for plugin in chosen.plugins} - plugins.keys()):
            self.found.notes.append(f"{location} needs the plug-in {name}, whose file is not kept here.")
        records = {name: FileRecord(len(data), hashlib.sha256(data).hexdigest()) for name, data in plugins.items()}
        small, _ = layout.split_by_size(chosen.manifest.files)
        tars = (tuple(sorted(small)),) if small else ()
        wanted = RemoteManifest(location, chosen.first, chosen.manifest, tars, records)
        number = 0
        if there is not None and there.manifests:
            if all(self._listing.has(name, size) for name, size in wanted.objects().items()):
                return False, there.latest
            number = max(there.manifests)
            known = read_manifest(self._storage, there.latest, self._listing.sizes[there.latest], location)
            merged = _merged(known, wanted, chosen.known)
            if merged is None:
                return False, there.latest
            wanted = merged
        self._honours_conditions()
        self._send_objects(chosen.run, wanted, plugins)
        return self._publish(wanted, chosen.known, number)

    def _send_objects(self, run: Run, wanted: RemoteManifest, plugins: Mapping[str, bytes]) -> None:
        for name, record in wanted.single().items():
            self._send_file(run, name, record)
        for name, data in plugins.items():
            self._send(layout.object_name(wanted.plugins[name].sha256), data)
        for digest, records in wanted.tar_records().items():
            name = layout.files_name(run.location, digest)
            if not self._is_there(name, layout.packed_size(records)):
                self._send(name, layout.packed({file: _content(run, file, records[file]) for file in records}))

    def _send_file(self, run: Run, name: str, record: FileRecord) -> None:
        where = layout.object_name(record.sha256)
        if self._is_there(where, record.size):
            return

        def send(path: Path) -> None:
            with explain_os_errors("read", path), as_plain_file(path) as plain:
                if sha256_of_file(plain) != record.sha256:
                    raise run.damaged(name, "its SHA-256 is not the one of its manifest")
                self._storage.create_from(where, plain)

        run.read(name, send)
        with self._lock:
            self.found.size += record.size

    def _is_there(self, name: str, size: int) -> bool:
        """Return whether the remote has an object. Raises: CorruptError where it has another size."""
        found = self._listing.sizes.get(name)
        if found is not None and found != size:
            raise CorruptError(f"{name} is corrupt there: it has {found:,} bytes, not {size:,}; remove it")
        return found is not None

    def _send(self, name: str, data: bytes) -> None:
        if name not in self._listing.sizes and self._storage.create(name, data):
            with self._lock:
                self.found.size += len(data)

    def _publish(self, wanted: RemoteManifest, ours: Mapping[str, FileRecord], number: int) -> tuple[bool, str]:
        """Write the manifest under the next free number; return whether it was, and the name of the one that counts.

        Another process may have written the same. ours: the files that the run is known to have.
        """
        location, storage, content = wanted.location, self._storage, wanted.to_bytes()
        for _ in range(_MOST_TRIES):
            number += 1
            name = layout.manifest_name(location, number, None if self._honours_conditions() else content)
            if storage.create(name, content):
                with self._lock:
                    self.found.size += len(content)
                return True, name
            # Another process was first, or this one, whose answer was lost. Losing is not an error.
            data = storage.read(name, 0, layout.MOST_OF_A_MANIFEST)
            if data == content:
                return True, name
            merged = _merged(RemoteManifest.from_bytes(data, location), wanted, ours)
            if merged is None:
                return False, name
            wanted, content = merged, merged.to_bytes()
        raise EnvironmentFailure(
            f"{_MOST_TRIES} manifests of {location} appeared at {storage.url} meanwhile. Try again."
        )

    def _sign(self, chosen: _Chosen, name: str, key_file: Path) -> None:
        """Sign the manifest that the remote has of a run, if all that it says is known here.

        Raises: CorruptError where it says more.
        """
        signature = layout.signature_name(name, self._key)
        if signature in self._listing.sizes:
            return
        data = self._storage.read(name, 0, layout.MOST_OF_A_MANIFEST)
        there = RemoteManifest.from_bytes(data, chosen.run.location)
        more = sorted(there.manifest.files.keys() - chosen.known.keys())
        if there.first != chosen.first:
            raise CorruptError("its manifest there is of another computation")
        if more:
            raise CorruptError(f"it has {more[0]} there and not here")
        if self._storage.create(signature, sign_manifest(str(chosen.run), data, key_file).to_bytes()):
            with self._lock:
                self.found.others += 1

    def _push_measures(self) -> None:
        """Send the results of measures of the runs that are in the remote."""
        locations = {*self.found.sent, *self.found.present}
        waiting = []
        for location, measure, path in measure_files(self._root):
            name = f"runs/{location}/{measure}.{path.stem}.measure"
            is_sendable = location in locations and layout.RUN_MEASURE.fullmatch(name) is not None
            if is_sendable and name not in self._listing.sizes:
                waiting.append((name, read_file(path)))
        if waiting:
            self._honours_conditions()
        for _, is_new in at_once(lambda each: self._storage.create(*each), waiting, self._reporter, "push", "results"):
            self.found.others += is_new

    def send_dataset(self, name: str, fingerprint: str, files: Sequence[Path]) -> bool:
        """Send a prepared dataset; return False where it is there."""
        where = f"datasets/{name}/{fingerprint}.manifest"
        if (name, fingerprint) in self._listing.datasets or not layout.DATASET.fullmatch(where):
            return False
        records = {path.name: FileRecord.of(path) for path in files}
        self._honours_conditions()
        for path in files:
            record = records[path.name]
            if not self._is_there(layout.object_name(record.sha256), record.size):
                self._storage.create_from(layout.object_name(record.sha256), path)
                self.found.size += record.size
        self.found.others += 1
        return self._storage.create(where, layout.dataset_to_bytes(name, fingerprint, records))


def _without_states(chosen: _Chosen, iterations: set[int]) -> _Chosen:
    """Return a run with those of its states that others need."""
    epoch, files = chosen.run.record()["iterations_per_epoch"], chosen.manifest.files
    kept = {name: files[name] for name in needed_files(files, epoch, iterations)}
    return dataclasses.replace(chosen, manifest=dataclasses.replace(chosen.manifest, files=kept))


def _merged(
    known: RemoteManifest, wanted: RemoteManifest, all_of_ours: Mapping[str, FileRecord]
) -> RemoteManifest | None:
    """Return the remote's manifest with the files of both; None where the remote's has all.

    Raises: CorruptError where they have different files of one name, as of a run that was computed on two machines.
    """
    ours, theirs = wanted.manifest.files, known.manifest.files
    all_of_theirs = {**Manifest.from_bytes(known.first).files, **theirs}
    shared = all_of_ours.keys() & all_of_theirs.keys()
    different = sorted(name for name in shared if all_of_ours[name] != all_of_theirs[name])
    if different:
        raise CorruptError(f"the remote has other bytes of {different[0]}, and keeps them")
    if ours.keys() <= theirs.keys():
        return None
    added = {name: record for name, record in ours.items() if name not in theirs}
    small, _ = layout.split_by_size(added)
    tars = (*known.tars, *((tuple(sorted(small)),) if small else ()))
    manifest = layout.as_it_is(known.location, known.first, {**theirs, **ours})
    return RemoteManifest(known.location, known.first, manifest, tars, {**known.plugins, **wanted.plugins})


def _content(run: Run, name: str, record: FileRecord) -> bytes:
    """Return the bytes of a small file. Raises: DamagedError where they are not those of the manifest."""
    with explain_os_errors("read", run.path(name)):
        data = run.read(name, read_file)
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise run.damaged(name, "its SHA-256 is not the one of its manifest")
    return data
