"""One process at a time: locks that a killed process cannot leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def lock(path: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock at `path` inside the block.

    If another process holds it, report that once (which process, on which machine, since when) and wait. The lock is
    the operating system's, so it ends with its process. name: what is locked, for the report.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".holder")
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        say(f"Waiting for {_describe(holder)}, which works on {name}.")
        file_lock.acquire()
    try:
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        holder.write_text(json.dumps(facts))
        yield
    finally:
        holder.unlink(missing_ok=True)
        file_lock.release()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock at `path` now."""
    if not path.with_suffix(".holder").exists():
        return False
    file_lock = FileLock(path)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        return True
    file_lock.release()
    return False


def _describe(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text())
        return f"process {facts['pid']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, KeyError):
        return "another process"
