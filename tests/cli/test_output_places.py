"""Files and folders for people stay out of upstreams, and apart from the files of a root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.sharing.conftest import PRUNED
from tests.cli.terminal import SHORT, Terminal

WRITERS = (
    ("share", "{}", "--where=status=complete"),
    ("publish", "{}", "branch_oneshot"),
    ("crate", "{}", "--where=status=complete"),
    ("export", "branch_oneshot", "{}"),
    ("report", "--out={}"),
    ("table", "--out={}.csv"),
    ("plot", "curves", "--out={}.pdf"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Terminal:
    terminal = Terminal(tmp_path_factory.mktemp("lab") / "runs", digits)
    assert terminal.run("train", *SHORT).code == 0
    assert terminal.run(*PRUNED).code == 0
    return terminal


@pytest.mark.parametrize("words", WRITERS, ids=lambda words: words[0])
def test_nothing_is_written_into_an_upstream_or_over_the_files_of_a_root(
    lab: Terminal, tmp_path: Path, words: tuple[str, ...]
) -> None:
    own = Terminal(tmp_path / "own", lab.datasets, {"OPEN_PRUNE_UPSTREAM": str(lab.root)})
    (tmp_path / "link").symlink_to(lab.root)
    before = lab.files()
    for place in (lab.root / "new", tmp_path / "link" / "new", lab.root / "train_x"):
        own.run(*(word.format(place) for word in words)).assert_is_for_people(2, "lies in the upstream")
    main = lab.root / "train_x" / "replicate_1" / "main"
    for place in (main, lab.root / ".packs" / "x"):
        lab.run(*(word.format(place) for word in words)).assert_is_for_people(2, "lies among the runs")
    assert lab.files() == before
