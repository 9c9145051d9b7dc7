from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.added.added import register_added


@pytest.fixture(autouse=True)
def no_added_datasets_stay_registered(tmp_path: Path) -> Iterator[None]:
    yield
    register_added(tmp_path / "nothing here")
