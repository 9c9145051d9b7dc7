"""Making room: the states that go to meet a budget, and their removal. It imports no torch.

A state goes only if a replay gives it back with the same bytes and no process needs it. Of these, the ones that were
used least recently go first. The manifest remembers the SHA-256 of each, which a replay must reproduce.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.space.replays import Replays, replay_seconds, states_read
from analysis.space.usage import Usage
from foundations.description.address import Location
from foundations.errors import Busy, DamagedError, EnvironmentFailure, OpenPruneError
from foundations.storage.locks import is_held, used_states
from foundations.storage.packing import repack
from foundations.storage.run import Run
from foundations.storage.store import all_runs
from foundations.storage.upkeep import verify
from foundations.storage.usage import STATES, StoredFile

LOCKS = ".locks"
_RECORD_SIZE = 40
"""The most bytes by which a manifest grows where it lists a state as evicted."""


@dataclass(frozen=True)
class Eviction:
    """A state that may go."""

    file: StoredFile
    run: Location
    seconds: float
    """The time of a replay."""
    idle: float
    """Seconds since its last use: a change, a read, or the completion of a run that depends on it."""
    device: str
    """The device that computed it, and has to replay it."""
    manifest_size: int
    """The most bytes of the further manifest that the run gets."""
    is_packed: bool = False
    """Whether it is in a pack, so that no file becomes free."""

    @property
    def key(self) -> str:
        """`<location>/<file>`."""
        return f"{self.run}/{self.file.name}"


@dataclass
class EvictionPlan:
    """The states that go, and those that stay although they are candidates by their kind."""

    chosen: list[Eviction] = field(default_factory=list)
    spare: list[Eviction] = field(default_factory=list)
    """States that could go as well, but need not."""
    kept: dict[str, list[StoredFile]] = field(default_factory=lambda: defaultdict(list))
    """States that stay, by the reason."""
    _size: int = 0
    _runs: set[Location] = field(default_factory=set)

    @property
    def size(self) -> int:
        """The bytes that become free: those of the states that go, less those of further manifests."""
        return self._size

    @property
    def files(self) -> int:
        """The number of files that become free: each run gets a further manifest. Members of packs do not count."""
        plain = [each.run for each in self.chosen if not each.is_packed]
        return len(plain) - len(set(plain))

    def choose(self, each: Eviction) -> None:
        """Add a state to those that go."""
        self.chosen.append(each)
        self._size += each.file.size - (0 if each.run in self._runs else each.manifest_size)
        self._runs.add(each.run)

    def seconds(self) -> float:
        """Return the time to replay all states that go: of each run, to the last one."""
        longest: dict[Location, float] = {}
        for each in self.chosen:
            longest[each.run] = max(each.seconds, longest.get(each.run, 0.0))
        return sum(longest.values())


def plan_evictions(
    usage: Usage, root: Path, replays: Replays, *, size: float, files: float, grace: float, users: Sequence[Path] = ()
) -> EvictionPlan:
    """Choose the states that go so that the root has `size` bytes and `files` files less.

    grace: seconds; a state that was used within them stays.
    users: roots with runs that depend on the ones here.
    """
    needed, last_uses = _needs([root, *users])
    packed = usage.packed_states()
    identities = {file.identity for file in packed}
    plan, now = EvictionPlan(), file_system_time(root)
    candidates: list[Eviction] = []
    for location, states in _states_by_run([*usage.files, *packed]).items():
        obstacle = replays.obstacle(location) or ("a process works on it" if _is_busy(Run(root, location)) else "")
        if obstacle:
            plan.kept[obstacle] += states
            continue
        run = Run(root, location)
        manifest = run.read_manifest()
        assert manifest is not None, "it is complete"
        seconds, most = replay_seconds(run, manifest), len(manifest.to_bytes()) + _RECORD_SIZE * len(states)
        for file in states:
            key = f"{location}/{file.name}"
            idle = now - max(file.used, last_uses.get(key, 0.0))
            if key in needed:
                plan.kept["a run that is not complete, or a process at work, needs it"].append(file)
            elif usage.has_other_links(file):
                plan.kept["it has another hard link, so that removing it frees nothing"].append(file)
            elif idle < grace:
                plan.kept["it was used within the grace period"].append(file)
            elif file.name in manifest.files:
                is_packed = file.identity in identities
                facts = (seconds[file.name], idle, manifest.device, most, is_packed)
                candidates.append(Eviction(file, location, *facts))
    _choose(candidates, plan, size, files)
    return plan


def _choose(candidates: list[Eviction], plan: EvictionPlan, size: float, files: float) -> None:
    for each in sorted(candidates, key=lambda each: (-each.idle // 1, each.seconds, each.key)):
        if plan.size < size or (plan.files < files and not each.is_packed):
            plan.choose(each)
        else:
            plan.spare.append(each)


def evict(root: Path, evictions: Iterable[Eviction], users: Sequence[Path] = ()) -> tuple[list[Eviction], list[str]]:
    """Remove states; return those that are gone, and a sentence about each run whose states stay after all.

    First the manifest lists a state as evicted, then the notes of the processes at work are read, then the file is
    removed. A job notes the states that it needs, then looks whether they are there. So one of the two sees the other.
    A packed run is given a folder for that, and packed again.
    """
    by_run: dict[Location, list[Eviction]] = defaultdict(list)
    for each in evictions:
        by_run[each.run].append(each)
    gone, stayed, unpacked = list[Eviction](), list[str](), list[Run]()
    for location, states in by_run.items():
        run = Run(root, location)
        try:
            with run.locked(lambda _line: None, wait=False):
                gone += _evict(run, states, users, unpacked)
        except (Busy, DamagedError, EnvironmentFailure) as error:
            stayed.append(str(error).splitlines()[0])
    return gone, stayed + repack(unpacked)


def _evict(run: Run, states: Sequence[Eviction], users: Sequence[Path], unpacked: list[Run]) -> list[Eviction]:
    manifest = run.manifest()
    states = [each for each in states if manifest is not None and each.file.name in manifest.files]
    if not states:
        return []
    if run.place != run.final:
        for problem in verify(run):
            raise problem
        run.unpack()
        unpacked.append(run)
    records = manifest.files if manifest else {}
    run.amended(without=[each.file.name for each in states], evicted=True)
    run.remove_superseded()
    used: set[str] = set().union(*(used_states(root / LOCKS) for root in (run.root, *users)))
    gone = []
    for each in states:
        if each.key in used:
            run.amended(files={each.file.name: records[each.file.name]})
        else:
            run.path(each.file.name).unlink(missing_ok=True)
            gone.append(each)
    return gone


def _states_by_run(files: Iterable[StoredFile]) -> dict[Location, list[StoredFile]]:
    found: dict[Location, list[StoredFile]] = defaultdict(list)
    for file in files:
        if file.kind == STATES and file.run is not None:
            found[file.run].append(file)
    return found


def _needs(roots: Sequence[Path]) -> tuple[set[str], dict[str, float]]:
    """Return the states that runs under way or interrupted need, and when complete runs last used others.

    The times are those of the manifests, by the clock of the file system. States are `<location>/<file>`.
    """
    needed, last = set[str](), dict[str, float]()
    for root in roots:
        needed |= used_states(root / LOCKS)
        for run in all_runs(root):
            with contextlib.suppress(OpenPruneError, KeyError, TypeError, ValueError, OSError):
                states = states_read(run, roots)
                if states and run.read_manifest() is None:
                    needed |= states
                for state in states:
                    last[state] = max(run.changed(), last.get(state, 0.0))
    return needed, last


def _is_busy(run: Run) -> bool:
    return is_held(run.lock_path)


def file_system_time(root: Path) -> float:
    """Return the time by the clock that dates the files of a root; this machine's where the root is read-only."""
    try:
        with tempfile.TemporaryFile(dir=root) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
