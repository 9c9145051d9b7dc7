"""Temporary files beside the files that they become, and their removal after a writer was killed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

PART = ".part"


def part_of(path: Path) -> Path:
    """Return a path beside `path` for a file or folder of this process that is under way."""
    return path.with_name(f".{path.name}.{_place()}-{os.getpid()}-{os.urandom(4).hex()}{PART}")


def sweep_parts(folder: Path, of: str | None = None) -> None:
    """Remove temporary files that killed writers left.

    of: remove only the parts of this file whose process ran on this machine and has ended. Without it, remove all: hold
    the folder's lock then.
    """
    _remove_parts(folder, lambda name: of is None or is_abandoned(name, of))


def sweep_abandoned(folder: Path) -> None:
    """Remove the temporary files of any file that processes of this machine left, which have ended."""
    _remove_parts(folder, is_abandoned)


def _remove_parts(folder: Path, which: Callable[[str], bool]) -> None:
    for part in folder.glob(f".*{PART}"):
        if which(part.name):
            with contextlib.suppress(PermissionError):  # another user's, in a folder with the sticky bit
                part.unlink(missing_ok=True)


def is_abandoned(part: str, of: str | None = None) -> bool:
    """Return whether a temporary file or folder, of `of` or any, was left by a process of this machine that ended."""
    name = ".+" if of is None else re.escape(of)
    found = re.fullmatch(rf"\.{name}\.{_place()}-(\d+)-[0-9a-f]+{re.escape(PART)}", part)
    if found is None:
        return False
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@functools.cache
def _place() -> str:
    """Return an identifier of this machine that is valid in any file name."""
    import socket

    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
