"""Commands and Python in new processes: time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from foundations.program import TOP

COMMAND = [sys.executable, str(TOP / "open_prune.py")]


def command(arguments: Sequence[str], root: Path, datasets: Path | None = None) -> Callable[[], None]:
    """Return a function that runs a command of open_prune in a new process, on a root. It fails if the command does."""
    return process([*COMMAND, *arguments], root, datasets)


def process(line: Sequence[str], root: Path, datasets: Path | None = None) -> Callable[[], None]:
    """Return a function that runs a command line in a new process."""

    def work() -> None:
        subprocess.run(line, check=True, env=_variables(root, datasets), cwd=TOP, stdout=subprocess.DEVNULL)

    return work


def peak_memory(code: str, *arguments: str) -> float:
    """Return the largest resident memory of a new interpreter that runs some Python, in MiB.

    Linux counts it for the process itself, including shared libraries and mapped files in use.
    """
    script = f"{code}\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, cwd=TOP, stdout=subprocess.PIPE)
    return int(done.stdout.split()[-1]) / (1024 if sys.platform == "linux" else 2**20)


def until(line: Sequence[str], root: Path, mark: str, datasets: Path | None = None) -> float:
    """Return the seconds until a command prints a line that begins with a mark; then wait for its end."""
    began = time.perf_counter()
    with subprocess.Popen(line, env=_variables(root, datasets), cwd=TOP, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for printed in running.stdout:
            if printed.startswith(mark):
                took = time.perf_counter() - began
                running.communicate()
                assert running.returncode == 0
                return took
    raise RuntimeError(f"{line} printed no {mark}")


def _variables(root: Path, datasets: Path | None) -> Mapping[str, str]:
    folders = {"OPEN_PRUNE_ROOT": str(root)} | ({} if datasets is None else {"OPEN_PRUNE_DATASETS": str(datasets)})
    return {**os.environ, **folders}
