"""Which versions computed a result, for manifests."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def versions() -> dict[str, str]:
    """Return the versions of Python, of the libraries that compute, and the commit of this code where it is known."""
    found = {name: version(name) for name in ("torch", "torchvision", "numpy", "safetensors")}
    return {"python": platform.python_version(), **found, "open_prune": _commit()}


def _commit() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
