"""The space that runs take, by kind of file, model, strategy, age or run. It imports no torch."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from analysis.rows.run_row import Row
from analysis.rows.runs import read_rows
from foundations import packs
from foundations.description.address import Location
from foundations.errors import OpenPruneError
from foundations.storage.manifest import Manifest
from foundations.storage.run import STATE, Run
from foundations.storage.usage import CHECKPOINTS, LEFTOVERS, PACKS, SET_ASIDE, STATES, StoredFile, files_under

NO_RUN = "(no run)"
"""The group of files that belong to no run, such as locks and caches."""
_DAY = 86400
_AGES = ((_DAY, "under a day"), (7 * _DAY, "a day to a week"), (30 * _DAY, "a week to 30 days"))
_OLDEST = "over 30 days"
GROUPINGS: Mapping[str, Callable[[Row], str]] = {
    "model": lambda row: str(row.model),
    "strategy": lambda row: str(row.strategy or "none"),
    "age": lambda row: next((name for most, name in _AGES if (row.age or 0) < most), _OLDEST),
    "run": lambda row: row.address,
}
"""The groupings of runs."""
KIND = "kind"


@dataclass
class Group:
    """The space of a group of files."""

    files: int = 0
    size: int = 0
    """In bytes; a file with several hard links in the group counts once."""
    shared: int = 0
    """The bytes, among these, of files that exist again outside: hard links, or files with the same content."""
    _identities: set[Hashable] = field(default_factory=set)

    def add(self, file: StoredFile, *, is_shared: bool) -> None:
        """Add a file. is_shared: whether its content exists again."""
        self.files += 1
        if file.identity not in self._identities:
            self._identities.add(file.identity)
            self.size += file.size
            self.shared += file.size if is_shared else 0

    def to_dict(self) -> dict[str, int]:
        """Return its numbers as plain data."""
        return {"files": self.files, "bytes": self.size, "shared": self.shared, "unique": self.size - self.shared}


@dataclass(frozen=True)
class Usage:
    """The space under a root."""

    root: Path
    files: list[StoredFile]
    folders: list[str]
    rows: dict[Location, Row]
    shared: set[str]
    """Paths of the files whose content exists again."""

    @property
    def total(self) -> Group:
        """The space of all files."""
        return self._sum(self.files)

    def by(self, grouping: str) -> dict[str, Group]:
        """Return the groups of a grouping (`KIND` or one of `GROUPINGS`), the largest first."""
        members: dict[str, list[StoredFile]] = defaultdict(list)
        for file in self.files:
            for part in [file] if grouping == KIND or file.kind != PACKS else self._packed(file):
                row = self.rows.get(part.run) if part.run else None
                members[part.kind if grouping == KIND else GROUPINGS[grouping](row) if row else NO_RUN].append(part)
        groups = {name: self._sum(each) for name, each in members.items()}
        return dict(sorted(groups.items(), key=lambda item: (-item[1].size, item[0])))

    def _packed(self, pack: StoredFile) -> list[StoredFile]:
        """Return the members of a pack, and the rest of its bytes as a file of no run."""
        parts = []
        with contextlib.suppress(OSError):  # `verify` names it
            for number, (name, member) in enumerate(packs.members(self.root / pack.path).items(), 1):
                run = Location.parse(name.rpartition("/")[0])
                parts.append(replace(pack, path=name, run=run, size=member.size, identity=(*pack.identity, number)))
        return [*parts, replace(pack, size=pack.size - sum(part.size for part in parts))]

    def packed_states(self) -> list[StoredFile]:
        """Return the states of packed runs. Reads of them are not recorded, so a state was used when it was changed."""
        found = []
        for pack in self.files:
            if pack.kind == PACKS and pack.path.endswith(packs.SUFFIX):
                members = packs.members(self.root / pack.path)
                states = [part for part in self._packed(pack) if STATE.fullmatch(part.name) and part.run]
                times = {part.path: members[part.path].changed for part in states}
                here = [part for part in states if part.run and self._place(part.run) == self.root / pack.path]
                found += [replace(part, kind=STATES, changed=times[part.path], used=times[part.path]) for part in here]
        return found

    def _place(self, location: Location) -> Path | None:
        """Return the pack that a run is read from, if any: not one that holds an older copy of it."""
        run = Run(self.root, location)
        return run.place.parents[2] if run.is_published and run.place != run.final else None

    def has_other_links(self, file: StoredFile) -> bool:
        """Return whether another file under the root is a hard link to the same content."""
        return self._links[file.identity] > 1

    @cached_property
    def _links(self) -> Counter[tuple[int, ...]]:
        return Counter(file.identity for file in self.files)

    def stale(self, kind: str) -> list[StoredFile]:
        """Return the leftovers of killed processes (`LEFTOVERS`), or the files that were set aside (`SET_ASIDE`)."""
        return [file for file in self.files if file.kind == kind]

    def _sum(self, files: Iterable[StoredFile]) -> Group:
        group = Group()
        for file in files:
            group.add(file, is_shared=file.path in self.shared)
        return group


def usage_of(root: Path) -> Usage:
    """Return the space under a root. Reads descriptions and manifests. Raises: EnvironmentFailure."""
    files, folders = files_under(root) if root.exists() else ([], [])
    rows = {row.run.location: row for row in read_rows(root)}
    manifests = {location: _manifest(Run(root, location)) for location in {file.run for file in files if file.run}}
    files = [_marked(file, manifests.get(file.run) if file.run else None) for file in files]
    return Usage(root, files, folders, rows, _shared(files, manifests))


def _marked(file: StoredFile, manifest: Manifest | None) -> StoredFile:
    """Return a file with its kind: a complete run's working folders, checkpoints and unlisted states are leftovers."""
    if manifest is None or file.kind == SET_ASIDE:
        return file
    is_left = file.is_hidden or (file.kind in (CHECKPOINTS, STATES) and file.name not in manifest.files)
    return replace(file, kind=LEFTOVERS) if is_left else file


def _shared(files: Iterable[StoredFile], manifests: Mapping[Location, Manifest | None]) -> set[str]:
    """Return the paths of files that are hard links to each other, or have the same SHA-256 in their manifests."""
    files, digests = list(files), dict[Hashable, str]()
    for file in files:
        manifest = manifests.get(file.run) if file.run else None
        if manifest and file.name in manifest.files:
            digests[file.identity] = manifest.files[file.name].sha256
    contents = {file.path: digests.get(file.identity, file.identity) for file in files}
    number = Counter(contents.values())
    return {path for path, content in contents.items() if number[content] > 1}


def _manifest(run: Run) -> Manifest | None:
    try:
        return run.read_manifest()
    except OpenPruneError:  # `verify` reports it
        return None
