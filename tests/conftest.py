"""Settings of all tests: one thread each (two workers share two cores), and the folders of reference data."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPEN_PRUNE_CACHE"] = ""  # nothing is timed for estimates, and nothing is kept in the user's cache
os.environ["XDG_STATE_HOME"] = str(Path(tempfile.gettempdir()) / "open_prune_tests_state")

# Memory of workers, and of what tests fork from, is in pages of 2 MiB where Linux has them: a third as long to fork.
os.environ.setdefault("PYTHONMALLOC", "malloc")
os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")

# Folders of tests are in memory where there is room: on a disk, each flush of a file takes milliseconds.
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

# Each module is compiled once, not by every process: also where this is switched off for other work.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--in_new_environment",
        action="store_true",
        help="install the wheel and its dependencies into a new virtual environment (tests/test_setup.py)",
    )


def pytest_collection_finish() -> None:
    """Leave out of later garbage collections what stays to the end, here and in the processes that tests fork."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


GOLDEN_FOLDERS = (SHARED / "golden", SHARED / "golden_methods", REPOSITORY / "tests" / "golden")
"""Folders of cases that published implementations computed.

`tests/golden` has a case of each method and a trajectory; the tests use the full set if it is beside the repository.
"""


def golden_case(name: str) -> Path:
    """Return the folder of a case; skip the test where it is missing."""
    for folder in GOLDEN_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    pytest.skip(f"the reference vectors of {name} are not on this machine")


def golden_cases() -> list[str]:
    """Return the names of all cases that are here."""
    return sorted({case.parent.name for folder in GOLDEN_FOLDERS for case in folder.glob("*/case.json")})


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared datasets that holds digits."""
    from datasets.prepared import ensure_prepared

    folder = tmp_path_factory.mktemp("datasets")
    ensure_prepared("digits", folder, allow_download=False, report=print)
    return folder
