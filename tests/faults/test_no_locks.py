"""A root, or a folder of datasets, on a file system that has no locks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.cli.terminal import Result
from tests.faults.injection import Fault, Kind, Witness, arm
from tests.faults.jobs import JOBS, Command
from tests.faults.stage import Stage, contents, is_leftover

HAS_NO_LOCKS = "file system has no locks"


@pytest.fixture
def stage(tmp_path: Path, digits: Path) -> Stage:
    return Stage(JOBS["oneshot"], tmp_path, digits)


def run_without_locks(stage: Stage, command: Command, place: Path, kind: Kind) -> Result:
    return stage.run(command, place, partial(arm, Fault(kind, 1), place, Witness()))


@pytest.mark.parametrize("kind", [Kind.ENOLCK, Kind.ENOSYS])
@pytest.mark.parametrize("name", ["oneshot", "rm with branches", "sweep of branches"])
def test_what_would_write_says_so_and_names_the_root(stage: Stage, name: str, kind: Kind) -> None:
    place = stage.copy()

    result = run_without_locks(stage, JOBS[name].command, place, kind)

    result.assert_is_for_people(1, str(place / "root"), HAS_NO_LOCKS)
    assert contents(place) == stage.found
    assert not [path for path in place.rglob("*") if is_leftover(path)]


@pytest.mark.parametrize("command", [("ls",), ("verify",), ("show", "branch_oneshot"), JOBS["oneshot"].command])
def test_what_only_reads_works(stage: Stage, command: Command) -> None:
    place = stage.copy(of=stage.calm)

    assert run_without_locks(stage, command, place, Kind.ENOLCK).code == 0


def test_a_folder_of_datasets_without_locks_is_named(tmp_path: Path, digits: Path) -> None:
    stage = Stage(JOBS["add arrays"], tmp_path, digits)
    place = stage.copy()

    result = run_without_locks(stage, stage.job.command, place, Kind.ENOLCK)

    result.assert_is_for_people(1, str(place / "datasets" / "mine"), HAS_NO_LOCKS)
