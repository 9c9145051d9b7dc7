"""Versions that computed a result, for manifests."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from foundations.program import INSTALLED, version

_LIBRARIES_OF_NETWORKS = ("timm", "transformers")


def versions() -> dict[str, str]:
    """Return the versions of Python, of the libraries that compute, and the commit of this code or else its version.

    They are read once a process: loaded code stays the same even if the files change meanwhile.
    """
    return {**_always(), **{name: _of(name) for name in _LIBRARIES_OF_NETWORKS if name in sys.modules}}


_of = cache(metadata.version)


@cache
def _always() -> dict[str, str]:
    found = {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "safetensors")}
    return {"python": platform.python_version(), **found, "open_prune": _commit() or version()}


def _commit() -> str | None:
    """Return the commit of this code; None if it is installed, whatever repository its folder may be in."""
    if INSTALLED:
        return None
    try:
        commit = _git("describe", "--always", "--abbrev=40")
        # Not `describe --dirty`, which writes to the index: its lock would block other commits.
        changes = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if changes else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
