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
from foundations.files import PART, is_folder, is_there
from foundations.program import PROGRAM
from foundations.storage.generations import Generations
from foundations.storage.locks import Holder
from foundations.storage.manifest import MANIFEST

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


class RunFolder:
    """The folders of one run."""

    def __init__(self, root: Path, location: Location) -> None:
        self.root = root
        self.location = location
        self._own: Path | None = None
        """The working folder that this process has claimed or begun."""
        self._added: Path | None = None
        """The working folder for files that are to be added to the complete run."""
        self._is_complete = False
        """Whether a manifest was read from the final folder since the lock was last taken."""
        self._holder: Holder | None = None
        """The run's lock, while this process holds it."""

    def __str__(self) -> str:
        return str(self.location)

    @cached_property
    def place(self) -> Path:
        """The final folder, which exists once the run is complete."""
        return self.location.under(self.root)

    @cached_property
    def generations(self) -> Generations:
        """The working folders, while the run is not complete."""
        return Generations(self.place)

    @property
    def is_published(self) -> bool:
        """Whether the final folder has a manifest: the run is complete, or damaged."""
        return is_there(f"{self.place}/{MANIFEST}")

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
            at_place = self.place / name
            return at_place if self.is_published or (is_there(at_place) and not is_there(beside)) else beside
        return self.folder / name

    def read(self, name: str, reader: Callable[[Path], Result]) -> Result:
        """Return a function's result for the path of a file of the run, also if others rename its folder meanwhile.

        Another process does so that takes the run over or publishes it. Raises: the function's errors.
        """
        for _ in range(_ATTEMPTS):
            path = self.path(name)
            try:
                return reader(path)
            except (OSError, EnvironmentFailure):
                if self._own is not None or is_folder(path.parent) or self.path(name) == path:
                    raise
        return reader(self.path(name))

    def exists(self) -> bool:
        """Return whether anything was ever written for this run."""
        return os.path.exists(self.folder / DESCRIPTION)  # noqa: PTH110 (no error where a colleague's folder is closed)

    @property
    def output_path(self) -> Path:
        """The file with the output of the run's command, if an executor started it."""
        return self.path(OUTPUT)

    @property
    def lock_path(self) -> Path:
        """The run's lock: beside the runs, so that it outlives the directory's removal."""
        return self.root / ".locks" / f"{str(self.location).replace('/', '.')}.lock"

    def leftovers(self) -> list[Path]:
        """Return stale files and folders, such as a killed writer's, which are deleted when the lock is next taken."""
        stale = [each for each in self.generations.all() if self.generations.living_owner(each) is None]
        stale = [each for each in stale if each not in (self._own, self._added)]
        if self.is_published:
            checkpoint = self.place / CHECKPOINT
            return [*_parts(self.place), *([checkpoint] if is_there(checkpoint) else []), *stale]
        return [part for folder in (self.place, *stale) for part in _parts(folder)]

    def damaged(self, name: str, why: str) -> DamagedError:
        """Return the error for a damaged file of the run."""
        return DamagedError(f"{self.path(name)} is damaged: {why}.\n{self.how_to_mend()}")

    def how_to_mend(self) -> str:
        """Return a sentence with the command that mends the run."""
        return f"To set it aside and compute it again: {PROGRAM} verify {self.location} --mend"


def is_part(name: str) -> bool:
    """Return whether a file is a temporary one that a killed process left."""
    return name.startswith(".") and name.endswith(PART)


def _parts(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # a colleague's folder, say
        return [folder / name for name in os.listdir(folder) if is_part(name)]  # noqa: PTH208
    return []
