"""The files that `gc` removes: stale ones, and states that a replay gives back, until a budget is met."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from analysis.space.eviction import EvictionPlan, evict, file_system_time, plan_evictions
from analysis.space.replays import Replays
from analysis.space.stale import (
    is_checkpoint_of_interrupted,
    remove_from_runs,
    remove_idle_locks,
    remove_leftovers,
)
from analysis.space.usage import Usage
from foundations.storage.packing import sweep_packs
from foundations.storage.usage import CHECKPOINTS, LEFTOVERS, LOCKS, SET_ASIDE, StoredFile


@dataclass(frozen=True)
class Limits:
    """The budget, and the files that may go."""

    size: int | None = None
    """The most bytes under the root; None for any number."""
    files: int | None = None
    """The most files and folders under the root; None for any number."""
    grace: float = 0.0
    """Seconds in which a file must not have been used."""
    set_aside: bool = False
    """Whether files that `verify --mend` set aside go."""
    checkpoints: bool = False
    """Whether checkpoints of interrupted runs go."""

    def is_met(self, usage: Usage) -> bool:
        """Return whether a root is within the budget."""
        size, files = self.excess(usage)
        return size <= 0 and files <= 0

    def excess(self, usage: Usage) -> tuple[float, float]:
        """Return the number of bytes, and of files and folders, above the budget; negative below it."""
        size = 0.0 if self.size is None else usage.total.size - self.size
        return size, 0.0 if self.files is None else number_of_files(usage) - self.files


@dataclass(frozen=True)
class Collection:
    """The files under a root that go by some limits."""

    root: Path
    datasets: Path
    usage: Usage
    limits: Limits
    users: tuple[Path, ...] = ()
    """Roots with runs that depend on the ones here."""

    @cached_property
    def leftovers(self) -> list[StoredFile]:
        """Leftovers of killed processes."""
        return self.usage.stale(LEFTOVERS)

    @cached_property
    def set_aside(self) -> list[StoredFile]:
        """Files that were set aside, if they go."""
        return self._old(SET_ASIDE) if self.limits.set_aside else []

    @cached_property
    def checkpoints(self) -> list[StoredFile]:
        """Checkpoints of interrupted runs, if they go."""
        return self._old(CHECKPOINTS) if self.limits.checkpoints else []

    @cached_property
    def idle_locks(self) -> int:
        """The number of files of idle locks that go: they are empty, so only a budget of files removes them."""
        locks = [file for file in self.usage.files if file.kind == LOCKS and file.path.endswith(".lock")]
        return max(0, min(len(locks), int(self._excess(self._stale)[1])))

    @cached_property
    def evictions(self) -> EvictionPlan:
        """The states that go."""
        size, files = self._excess(self._stale)
        replays, grace = Replays(self.root, self.datasets), self.limits.grace
        return plan_evictions(
            self.usage, self.root, replays, size=size, files=files - self.idle_locks, grace=grace, users=self.users
        )

    @property
    def left(self) -> tuple[int, int]:
        """The bytes, and the files and folders, that the root has afterwards."""
        size = self.usage.total.size - sum(file.size for file in self._stale) - self.evictions.size
        return size, number_of_files(self.usage) - len(self._stale) - self.idle_locks - self.evictions.files

    def remove(self) -> Iterator[str]:
        """Remove the files; yield a sentence about each run whose files stay after all."""
        sweep_packs(self.root)
        yield from remove_leftovers(self.root, self.leftovers)
        yield from remove_from_runs(self.root, self.set_aside, lambda _manifest, _name: True)
        yield from remove_from_runs(self.root, self.checkpoints, is_checkpoint_of_interrupted)
        gone, stayed = evict(self.root, self.evictions.chosen, self.users)
        yield from stayed
        remove_idle_locks(self.root, self.usage.files, self.idle_locks)
        kept = len(self.evictions.chosen) - len(gone)
        if kept:
            yield f"{kept} state(s) stay: they were used meanwhile."

    @property
    def _stale(self) -> Sequence[StoredFile]:
        return [*self.leftovers, *self.set_aside, *self.checkpoints]

    def _excess(self, gone: Iterable[StoredFile]) -> tuple[float, float]:
        size, files = self.limits.excess(self.usage)
        gone = list(gone)
        return size - sum(file.size for file in gone), files - len(gone)

    def _old(self, kind: str) -> list[StoredFile]:
        now = file_system_time(self.root)
        return [file for file in self.usage.files if file.kind == kind and now - file.changed >= self.limits.grace]


def number_of_files(usage: Usage) -> int:
    """Return the number of files and folders, which quotas limit."""
    return usage.total.files + len(usage.folders)
