"""One listing of a remote, which tells all that is there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from foundations.description.address import Location
from foundations.errors import EnvironmentFailure
from foundations.remotes import layout
from foundations.remotes.layout import CorruptError, RemoteManifest
from foundations.remotes.storage import MissingObject, Storage


@dataclass
class RemoteRun:
    """The objects of one run."""

    manifests: dict[int, list[str]] = field(default_factory=dict)
    """Their names by number. Several have one number where a service ignored conditions."""
    measures: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The measure and the digest of each result of a measure, by the object's name."""
    signatures: dict[str, dict[str, str]] = field(default_factory=dict)
    """The names of the signatures of each manifest, by its name and the digest of the public key."""
    size: int = 0
    """Bytes of the objects that no other run shares."""

    @property
    def latest(self) -> str:
        """The name of the manifest that counts: of the highest number, the first."""
        return self.newest_first()[0]

    def newest_first(self) -> list[str]:
        """Return the names of the manifests, in the order in which they count."""
        return [name for number in sorted(self.manifests, reverse=True) for name in sorted(self.manifests[number])]


@dataclass
class Listing:
    """The objects of a remote."""

    sizes: dict[str, int]
    """By name."""
    runs: dict[Location, RemoteRun] = field(default_factory=dict)
    """The runs that have a manifest, or the beginning of one that is being pushed."""
    datasets: dict[tuple[str, str], str] = field(default_factory=dict)
    """The manifests of prepared datasets, by name and fingerprint."""
    unknown: list[str] = field(default_factory=list)
    """Names that are not of this format."""

    @classmethod
    def of(cls, storage: Storage, *, may_be_new: bool = False) -> Listing:
        """List a remote. may_be_new: whether nothing need be there.

        Raises: EnvironmentFailure where it cannot be listed, is of a newer format, or is not one.
        """
        found = cls(storage.listed())
        numbers = [int(match[1]) for match in map(layout.OTHER_FORMAT.fullmatch, found.sizes) if match]
        if max(numbers, default=0) > layout.FORMAT:
            raise EnvironmentFailure(
                f"{storage.url} is of format {max(numbers)}, and this version reads format {layout.FORMAT}: "
                "use a newer version."
            )
        for name, size in found.sizes.items():
            found._sort_in(name, size)
        if not may_be_new and not found.is_remote and not found.complete():
            raise EnvironmentFailure(
                f"There is no remote at {storage.url}: nothing was pushed there. Check the address."
            )
        return found

    @property
    def is_remote(self) -> bool:
        """Whether something was pushed here."""
        return layout.MARKER in self.sizes

    def _sort_in(self, name: str, size: int) -> None:
        if name == layout.MARKER or layout.OBJECT.fullmatch(name):
            return
        if match := layout.DATASET.fullmatch(name):
            self.datasets[match["name"], match["fingerprint"]] = name
            return
        for pattern in (layout.RUN_MANIFEST, layout.RUN_FILES, layout.RUN_MEASURE, layout.RUN_SIGNATURE):
            match = pattern.fullmatch(name)
            location = match and Location.parse(match["location"])
            if match and location:
                self._sort_in_run(pattern, match, self.runs.setdefault(location, RemoteRun()), size)
                return
        self.unknown.append(name)

    @staticmethod
    def _sort_in_run(pattern: re.Pattern[str], match: re.Match[str], run: RemoteRun, size: int) -> None:
        run.size += size
        if pattern is layout.RUN_MANIFEST:
            run.manifests.setdefault(int(match["number"]), []).append(match[0])
        elif pattern is layout.RUN_MEASURE:
            run.measures[match[0]] = match["measure"], match["digest"]
        elif pattern is layout.RUN_SIGNATURE:
            run.signatures.setdefault(f"{match['manifest']}.manifest", {})[match["key"]] = match[0]

    def complete(self) -> dict[Location, RemoteRun]:
        """Return the runs that have a manifest, trainings before their branches."""
        found = {location: run for location, run in self.runs.items() if run.manifests}
        return dict(sorted(found.items(), key=lambda item: (item[0].name != "main", str(item[0]))))

    def has(self, name: str, size: int) -> bool:
        """Return whether an object is there, with this size."""
        return self.sizes.get(name) == size


def read_manifest(storage: Storage, name: str, size: int, location: Location) -> RemoteManifest:
    """Read and check the manifest of a run in a remote. Raises: CorruptError; EnvironmentFailure."""
    data = read_whole(storage, name, size, layout.MOST_OF_A_MANIFEST)
    match = layout.RUN_MANIFEST.fullmatch(name)
    if match and match["sha256"] and name != layout.manifest_name(location, int(match["number"]), data):
        raise CorruptError("its SHA-256 is not the one in its name", data)
    try:
        return RemoteManifest.from_bytes(data, location)
    except CorruptError as error:
        raise CorruptError(str(error), data) from error


def read_whole(storage: Storage, name: str, size: int, at_most: int) -> bytes:
    """Return an object of a listed size. Raises: CorruptError, before reading where it is too large."""
    if size > at_most:
        raise CorruptError(f"it has {size:,} bytes, more than the {at_most:,} that it may have")
    try:
        data = storage.read(name, 0, size)
    except MissingObject as error:
        raise CorruptError("it is not there any longer") from error
    if len(data) != size:
        raise CorruptError(f"it has {len(data):,} bytes, not the {size:,} that were listed", data)
    return data
