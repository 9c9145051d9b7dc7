"""docs/reading_runs.md runs: every block, in order, as it stands."""

from __future__ import annotations

import re

import pytest

from tests.analysis.conftest import Family
from tests.conftest import REPOSITORY

PRINTED = ("prune_fraction", "compression", "test_accuracy", "kept, moved by", "iteration=7", "state", "False")
"""Part of the output of each block."""


def test_every_block_of_the_page_runs(
    own_family: Family, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPEN_PRUNE_ROOT", str(own_family.root))
    monkeypatch.setenv("OPEN_PRUNE_DATASETS", str(own_family.datasets))
    text = (REPOSITORY / "docs/reading_runs.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)

    for block, words in zip(blocks, PRINTED, strict=True):
        exec(compile(block, "docs/reading_runs.md", "exec"), {"__name__": "__main__"})
        assert words in capsys.readouterr().out
