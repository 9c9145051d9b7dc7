"""Folders of a run: the final one once it is complete, before that a working folder.

The final folder appears by one rename of a working folder (`foundations.storage.generations`), with its manifest
inside, so it is complete or not there. A rename fails if the name is taken, so a process that comes second overwrites
nothing. What is added later, or removed on purpose, makes a further manifest, which is linked to the next free number.

In format 1, an interrupted run lay in the final folder, without a manifest. It is read, and taken over, from there.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import is_folder, is_there
from foundations.packs import exists, names_in
from foundations.parts import PART
from foundations.program import PROGRAM
from foundations.storage.generations import Generations
from foundations.storage.locks import Holder
from foundations.storage.manifest import MANIFEST
from foundations.storage.packed import packed_place
from foundations.storage.pending_files import PendingFiles
from foundations.storage.place import Place

DESCRIPTION = "description.json"
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.txt"
OUTPUT = "output.txt"
FAILURE = "failure.json"
DAMAGED = "damaged_"
"""The prefix of files that were set aside."""
STATE = re.compile(r"state_ep(\d+)_it(\d+)\.safetensors")
OF_EXECUTORS = (OUTPUT, FAILURE)
"""Files that are beside the working folders."""
_ATTEMPTS = 10
Result = TypeVar("Result")


class RunFolder(Place):
    """The folders of one run."""

    def __init__(self, root: Path, location: Location) -> None:
        super().__init__(root, location)
        self._added: Path | None = None
        """The working folder for files that are to be added to the complete run."""
        self._pending = PendingFiles()
        """Files in this process's own working folder that have no names yet."""
        self._is_complete = False
        """Whether a manifest was read from the final folder since the lock was last taken."""
        self._holder: Holder | None = None
        """The run's lock, while this process holds it."""

    def __str__(self) -> str:
        return str(self.location)

    @cached_property
    def generations(self) -> Generations:
        """The working folders, while the run is not complete."""
        return Generations(self.final)

    def has_moved(self, place: Path) -> bool:
        """Return whether the run was packed or unpacked since it had a place."""
        self._is_complete = False
        return self.is_published and self.place != place

    @property
    def is_published(self) -> bool:
        """Whether the final folder has a manifest, or the run is packed: it is complete, or damaged."""
        self._packed = None
        if is_there(f"{self.unpacked}/{MANIFEST}"):
            return True
        self._packed = packed_place(self.home, self.location)
        # It may have been unpacked in between.
        return self._packed is not None or is_there(f"{self.unpacked}/{MANIFEST}")

    @property
    def folder(self) -> Path:
        """The folder of the run's files: the final one of a complete run, else the process's own or the newest."""
        own = self._own
        if own is not None and (self._holder is not None or is_folder(own)):
            return own
        if self._is_complete or self.is_published:
            return self.place
        return self.generations.newest(DESCRIPTION) or self.place

    def path(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        if name in OF_EXECUTORS:
            beside = self.generations.folder / name
            at_place = self.final / name
            is_here = is_there(self.final / MANIFEST)
            return at_place if is_here or (is_there(at_place) and not is_there(beside)) else beside
        return self._pending.path(name) or self.folder / name

    def read(self, name: str, reader: Callable[[Path], Result]) -> Result:
        """Return a function's result for the path of a file of the run, also if others rename its folder meanwhile.

        Another process does so that takes the run over or publishes it. Raises: the function's errors.
        """
        for _ in range(_ATTEMPTS):
            path = self.path(name)
            try:
                return reader(path)
            except (OSError, EnvironmentFailure):
                self._is_complete = False  # it may have been packed or unpacked
                if self._pending.path(name) and self._own is not None and is_folder(self._own):
                    self._pending.write_again()  # another process has removed a temporary file as a leftover
                    continue
                if self._own is not None or is_folder(path.parent) or self.path(name) == path:
                    raise
        return reader(self.path(name))

    def exists(self) -> bool:
        """Return whether anything was ever written for this run."""
        return self._holds(DESCRIPTION)

    def _holds(self, name: str) -> bool:
        """Return whether the run's folder has a file."""
        if self._pending.path(name) or exists(f"{self.folder}/{name}"):
            return True
        self._is_complete = False  # it may have been packed or unpacked meanwhile
        return exists(f"{self.folder}/{name}")

    def _names(self) -> list[str]:
        """Return the names of the files in the run's folder."""
        names = names_in(self.folder)
        if not names:
            self._is_complete = False  # it may have been packed or unpacked meanwhile
            names = names_in(self.folder)
        return [*names, *(self._pending.names() - set(names))]

    @property
    def output_path(self) -> Path:
        """The file with the output of the run's command, if an executor started it."""
        return self.path(OUTPUT)

    @property
    def lock_path(self) -> Path:
        """The run's lock: beside the runs, so that it outlives the directory's removal."""
        return self.root / ".locks" / f"{str(self.location).replace('/', '.')}.lock"

    def look_again(self) -> None:
        """Find out again whether an upstream's run counts, and whether the run is complete."""
        super().look_again()
        self._is_complete = False

    def leftovers(self) -> list[Path]:
        """Return stale files and folders, such as a killed writer's, which are deleted when the lock is next taken.

        An interrupted run in the root itself stays, although an upstream's counts: it may be left out again.
        """
        stale = [each for each in self.generations.all() if self.generations.living_owner(each) is None]
        stale = [each for each in stale if each not in (self._own, self._added)]
        if self.upstream is None and self.is_published:
            checkpoint = self.place / CHECKPOINT
            return [*_parts(self.place), *([checkpoint] if is_there(checkpoint) else []), *stale]
        return [part for folder in (self.final, *stale) for part in _parts(folder)]

    def damaged(self, name: str, why: str) -> DamagedError:
        """Return the error for a damaged file of the run."""
        return DamagedError(f"{self.path(name)} is damaged: {why}.\n{self.how_to_mend()}")

    def how_to_mend(self) -> str:
        """Return a sentence with the command that mends the run; for an upstream's, what happens instead."""
        if self.upstream is not None:
            return (
                f"The upstream {self.upstream} is never written. A job that needs the run computes it in {self.root}."
            )
        return f"To set it aside and compute it again: {PROGRAM} verify {self.location} --mend"


def is_part(name: str) -> bool:
    """Return whether a file is a temporary one that a killed process left."""
    return name.startswith(".") and name.endswith(PART)


def _parts(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # a colleague's folder, say
        return [folder / name for name in os.listdir(folder) if is_part(name)]  # noqa: PTH208
    return []
