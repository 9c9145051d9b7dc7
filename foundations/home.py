"""The user's own folders."""

from __future__ import annotations

import os
from pathlib import Path

from foundations.errors import EnvironmentFailure


def home_folder() -> Path:
    """Return the home directory, or a path that is not there if the folders of all data are named without it.

    Raises: EnvironmentFailure where there is none and it is needed.
    """
    try:
        return Path.home()
    except RuntimeError:
        if {"OPEN_PRUNE_ROOT", "OPEN_PRUNE_DATASETS"} <= os.environ.keys():
            return Path("/nonexistent")
        raise EnvironmentFailure(
            "There is no home directory. Set OPEN_PRUNE_ROOT and OPEN_PRUNE_DATASETS, the folders of runs and datasets."
        ) from None


def used_plugins_file() -> Path:
    """Return the user's file with the SHA-256 of each plug-in that the user has run (`foundations.plugins.kept`)."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else home_folder() / ".local" / "state") / "open_prune" / "plugins"
