"""The files under a root, by kind, with their sizes: a walk that follows no links and reads no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foundations import packs
from foundations.description.address import Location
from foundations.files import explain_os_errors
from foundations.storage.manifest import manifest_number
from foundations.storage.run import (
    CHECKPOINT,
    DAMAGED,
    DESCRIPTION,
    FAILURE,
    LOG,
    MANIFEST,
    MASK,
    METRICS,
    OUTPUT,
    SPARSITY,
    STATE,
)
from foundations.storage.run_folder import is_part
from foundations.storage.upkeep import REMOVED

STATES, CHECKPOINTS, SET_ASIDE, LEFTOVERS, LOCKS, PACKS, OTHER = (
    "states",
    "checkpoints",
    "set aside",
    "leftovers",
    "locks",
    "packs",
    "other",
)
"""Kinds of files that `gc` looks for; `OTHER` is whatever open_prune has not written."""
_NAMES = {
    CHECKPOINT: CHECKPOINTS,
    DESCRIPTION: "descriptions",
    MANIFEST: "manifests",
    MASK: "masks",
    SPARSITY: "masks",
    METRICS: "metrics",
    LOG: "logs",
    OUTPUT: "logs",
    FAILURE: "logs",
}
_FOLDERS = {
    ".locks": LOCKS,
    ".sweeps": LOCKS,
    ".jobs": "jobs",
    ".measures": "measures",
    ".cache": "caches",
    ".plugins": "plug-ins",
    ".pulls": "pulls",
    ".imports": "imports",
    packs.FOLDER: PACKS,
}


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file under a root."""

    path: str
    """Relative to the root, with slashes."""
    kind: str
    run: Location | None
    """The run that it belongs to, if any."""
    size: int
    """In bytes."""
    identity: tuple[int, ...]
    """Device and inode: the same for all hard links to a file."""
    changed: float
    """Time of the last change of its content, in seconds since 1970, by the clock of the file system."""
    used: float
    """Time of the last change or, where the file system records it, the last read."""

    @property
    def is_hidden(self) -> bool:
        """Whether it is in a working folder of its run, not in the final one."""
        return self.run is not None and self.path.split("/")[2].startswith(".")

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.path.rpartition("/")[2]


def files_under(root: Path) -> tuple[list[StoredFile], list[str]]:
    """Return the files under a root, and its folders, both in order.

    Links count as files of their own. Raises: EnvironmentFailure for a folder that cannot be read.
    """
    files, folders = [], []
    with explain_os_errors("read", root):
        for path, entry in _walk(root, ""):
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                folders.append(path)
                continue
            kind, run = _place(path)
            times = found.st_mtime, max(found.st_mtime, found.st_atime)
            files.append(StoredFile(path, kind, run, found.st_size, (found.st_dev, found.st_ino), *times))
    return files, folders


def _walk(folder: Path | str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield prefix + entry.name, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")


def _place(path: str) -> tuple[str, Location | None]:
    """Return the kind of a file and its run."""
    parts = path.split("/")
    name = parts[-1]
    run = None
    if len(parts) > 3:
        # The working folders of a run lie in a hidden folder with the run's name.
        run = Location.parse("/".join([*parts[:2], parts[2].removeprefix(REMOVED).lstrip(".")]))
    if any(part.startswith(REMOVED) for part in parts[:-1]) or is_part(name):
        return LEFTOVERS, run
    if run is None:
        is_aside = parts[0] == packs.FOLDER and name.startswith(DAMAGED)
        return SET_ASIDE if is_aside else _FOLDERS.get(parts[0], OTHER) if len(parts) > 1 else OTHER, None
    if name.startswith(DAMAGED):
        return SET_ASIDE, run
    if STATE.fullmatch(name):
        return STATES, run
    return _NAMES.get(name, "manifests" if manifest_number(name) else OTHER), run
