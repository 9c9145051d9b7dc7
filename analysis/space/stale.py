"""Removing stale files: leftovers of killed processes, files that were set aside, checkpoints, files of idle locks."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from foundations.description.address import Location
from foundations.errors import Busy, DamagedError, EnvironmentFailure
from foundations.parts import sweep_abandoned
from foundations.storage.locks import remove_idle
from foundations.storage.manifest import Manifest
from foundations.storage.run import CHECKPOINT, Run
from foundations.storage.upkeep import sweep_removed
from foundations.storage.usage import LOCKS, StoredFile


def remove_leftovers(root: Path, files: Iterable[StoredFile]) -> list[str]:
    """Remove the leftovers of killed processes among some files; return a sentence about each run that is in use."""
    files = list(files)
    sweep_removed(root)
    for folder in {(root / file.path).parent for file in files if file.run is None}:
        with contextlib.suppress(OSError):
            sweep_abandoned(folder)
    return remove_from_runs(root, files, lambda manifest, name: manifest is None or name not in manifest.files)


def remove_from_runs(
    root: Path, files: Iterable[StoredFile], may_go: Callable[[Manifest | None, str], bool]
) -> list[str]:
    """Remove files of runs under their locks, and what `Run.locked` removes; return a sentence about each run in use.

    may_go: asked under the lock, with the run's manifest and the file's name.
    """
    by_run: dict[Location, list[StoredFile]] = defaultdict(list)
    for file in files:
        if file.run is not None:
            by_run[file.run].append(file)
    stayed = []
    for location, each in by_run.items():
        run = Run(root, location)
        try:
            with run.locked(lambda _line: None, wait=False):
                manifest = run.read_manifest()
                for file in each:
                    if not file.is_hidden and may_go(manifest, file.name):
                        (root / file.path).unlink(missing_ok=True)
        except (Busy, DamagedError, EnvironmentFailure) as error:
            stayed.append(str(error).splitlines()[0])
        except OSError as error:
            stayed.append(f"Cannot remove {error.filename}: {error.strerror}.")
    return stayed


def is_checkpoint_of_interrupted(manifest: Manifest | None, name: str) -> bool:
    """Return whether a file is the checkpoint of a run that is not complete."""
    return manifest is None and name == CHECKPOINT


def remove_idle_locks(root: Path, files: Iterable[StoredFile], at_most: float) -> int:
    """Remove the files of locks that nobody holds, at most a number of them; return how many are gone."""
    gone = 0
    for file in files:
        if gone >= at_most:
            break
        if file.kind == LOCKS and file.path.endswith(".lock"):
            gone += remove_idle(root / file.path)
    return gone
