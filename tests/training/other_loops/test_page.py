"""The examples of docs/other_loops.md run where open_prune is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.documents import python_blocks_of
from tests.training.other_loops.conftest import Run

BLOCKS = python_blocks_of((REPOSITORY / "docs/other_loops.md").read_text())
SEVERAL = [block for block in BLOCKS if "init_process_group" in block]
ALONE = [block for block in BLOCKS if block not in SEVERAL]


def test_the_examples_of_one_process_run(run: Run, tmp_path: Path) -> None:
    assert len(ALONE) >= 4
    script = tmp_path / "examples.py"
    script.write_text("\n\n".join(ALONE))  # in one process, since it takes seconds to import the libraries

    run(script)


@pytest.mark.parametrize("block", SEVERAL)
def test_the_examples_of_several_processes_run(block: str, run: Run, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block)

    run(script, processes=2)
