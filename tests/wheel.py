"""The wheel, built from a copy of the sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setup import shipped
from tests.conftest import REPOSITORY


def build(folder: Path) -> Path:
    """Build the wheel from a copy of its sources; return its path."""
    source = folder / "source"
    others = (REPOSITORY / name for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"))
    for path in (*shipped(REPOSITORY), *others):
        place = source / path.relative_to(REPOSITORY)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    pip(Path(sys.executable), "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> None:
    """Install a wheel into a folder, without its dependencies."""
    pip(Path(sys.executable), "install", "--no-deps", "--target", str(folder), str(wheel))


def pip(python: Path, *arguments: str) -> None:
    """Run pip of a Python."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
