"""open_prune as its users have it: installed from the wheel, outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wheel import build, install

Run = Callable[..., str]
SCRIPTS = Path(__file__).parent


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package."""
    folder = tmp_path_factory.mktemp("installed")
    install(build(tmp_path_factory.mktemp("wheel")), folder)
    return folder


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Run a script in an empty folder, in one process or in several; return its output."""

    def run_script(script: Path, *arguments: str, processes: int = 1) -> str:
        launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
        command = [sys.executable, *(launcher if processes > 1 else ()), str(script), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run_script
