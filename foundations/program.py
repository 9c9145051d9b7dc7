"""The name, command line and version of this program, in the repository and when it is installed.

In the repository, `foundations` and the other floors are packages of the top level. Installed, they are inside the
package `open_prune`.
"""

from __future__ import annotations

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
"""The folder that holds the floors."""
PREFIX = __name__.removesuffix("foundations.program")
"""The prefix of the floors' package names: empty in the repository, `open_prune.` when installed."""
INSTALLED = PREFIX != ""
"""Whether this is the installed package."""
PROGRAM = "open_prune" if INSTALLED else "python open_prune.py"
"""The beginning of every command, for usage texts."""
COMMAND = (sys.executable, *(("-m", "open_prune") if INSTALLED else (str(TOP / "open_prune.py"),)))
"""The program's command line without arguments, for processes that are started from any folder."""


def version() -> str:
    """Return the version. It is written in pyproject.toml and nowhere else."""
    if INSTALLED:
        import importlib.metadata

        return importlib.metadata.version("open_prune")
    import tomllib

    pyproject = TOP / "pyproject.toml"
    return str(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["version"])
