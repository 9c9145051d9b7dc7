"""What all tests share: one thread each (two workers share two cores), and the reference data where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of vectors that published implementations computed; the test is skipped where it is absent."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip("the reference vectors are not on this machine")
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared datasets that holds digits."""
    from datasets.prepared import ensure_prepared

    folder = tmp_path_factory.mktemp("datasets")
    ensure_prepared("digits", folder, allow_download=False, report=print)
    return folder
