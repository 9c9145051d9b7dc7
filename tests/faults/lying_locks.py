"""A file system whose `flock` succeeds for everybody, as on many shared ones."""

from __future__ import annotations

import fcntl
from pathlib import Path

SITE = """
import fcntl

fcntl.flock = lambda handle, operation: None
"""
"""A sitecustomize.py, for processes that start a Python of their own."""


def let_locks_lie() -> None:
    """Let locks keep nobody out, in this process and those that it forks."""
    setattr(fcntl, "flock", lambda _handle, _operation: None)  # noqa: B010


def write_site(folder: Path) -> Path:
    """Write a sitecustomize.py into a folder for PYTHONPATH; return the folder."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITE)
    return folder
