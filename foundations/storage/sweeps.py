"""The sweeps that work on a root: their names, their progress, and requests to stop.

A running sweep is a lock and a file beside it under `<root>/.sweeps`, so that any machine with the file system sees it.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.errors import Busy, UsageError
from foundations.files import explain_os_errors
from foundations.storage.locks import Holder, is_held, lock, read_holder
from foundations.storage.root_format import check_format

_FOLDER = ".sweeps"


class RunningSweep:
    """A running sweep, as it reports itself to other processes."""

    def __init__(self, holder: Holder, stop_file: Path, name: str) -> None:
        self._holder, self._stop_file, self.name = holder, stop_file, name

    def note(self, **facts: Any) -> None:
        """Report the progress of the sweep."""
        self._holder.note(facts)

    def is_asked_to_stop(self) -> bool:
        """Return whether somebody has asked the sweep to stop."""
        return self._stop_file.exists()


@dataclass(frozen=True)
class KnownSweep:
    """A sweep as other processes see it."""

    name: str
    facts: dict[str, Any]
    is_alive: bool
    """Whether its process is there; if not, it was killed."""


@contextlib.contextmanager
def running_sweep(root: Path, what: str) -> Iterator[RunningSweep]:
    """Register a sweep for the duration of the block. what: the title of its work."""
    host = re.sub(r"[^\w-]", "_", socket.gethostname())
    name = f"{host}-{os.getpid()}"
    path = root / _FOLDER / f"{name}.lock"
    _sweep_killed(path.parent)
    with explain_os_errors("work in", root), lock(path, name, lambda _line: None) as holder:
        stop_file = path.with_suffix(".stop")
        stop_file.unlink(missing_ok=True)  # it may be of a former process that had the same number
        sweep = RunningSweep(holder, stop_file, name)
        sweep.note(what=what)
        try:
            yield sweep
        finally:
            stop_file.unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _sweep_killed(folder: Path) -> None:
    """Remove the files of killed sweeps, which `watch` has shown until now."""
    for path in folder.glob("*.lock"):
        if is_held(path):  # also where locks keep nobody out
            continue
        with contextlib.suppress(Busy, OSError), lock(path, path.stem, lambda _line: None, wait=False):
            path.with_suffix(".stop").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def known_sweeps(root: Path) -> list[KnownSweep]:
    """Return the sweeps that run, or were killed, by name. Raises: EnvironmentFailure for a root of a newer format."""
    check_format(root)
    found = []
    for path in sorted((root / _FOLDER).glob("*.holder")):
        facts = read_holder(path)
        if facts is not None:
            found.append(KnownSweep(path.stem, facts, is_held(path.with_suffix(".lock"))))
    return found


def ask_to_stop(root: Path, name: str | None = None) -> list[str]:
    """Ask a sweep, or all that run, to write checkpoints and end; return their names. Raises: UsageError."""
    alive = [sweep.name for sweep in known_sweeps(root) if sweep.is_alive]
    chosen = alive if name is None else [each for each in alive if each == name]
    if not chosen:
        running = f"These run: {', '.join(alive)}." if alive else f"None runs under {root}."
        raise UsageError(f"there is no sweep '{name}' to stop. {running}" if name else f"No sweep runs under {root}.")
    for each in chosen:
        with explain_os_errors("write", root / _FOLDER):
            (root / _FOLDER / f"{each}.stop").touch()
    return chosen
