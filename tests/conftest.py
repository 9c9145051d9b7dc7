"""What all tests share: one thread each (two workers share two cores), and the reference data where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--in_new_environment",
        action="store_true",
        help="install the wheel and its dependencies into a new virtual environment (tests/test_setup.py)",
    )


def golden_case(name: str) -> Path:
    """Return the folder of a case that a published implementation computed; skip the test where it is missing.

    `tests/golden` has a case of each method and a trajectory; the full set is used where it is beside the repository.
    """
    for folder in (SHARED / "golden" / name, REPOSITORY / "tests" / "golden" / name):
        if folder.is_dir():
            return folder
    pytest.skip(f"the reference vectors of {name} are not on this machine")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared datasets that holds digits."""
    from datasets.prepared import ensure_prepared

    folder = tmp_path_factory.mktemp("datasets")
    ensure_prepared("digits", folder, allow_download=False, report=print)
    return folder
