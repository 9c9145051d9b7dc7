"""The k-th file operation of a command fails, or its process is killed there, for every k from the first to the last.

`pytest -s -m slow tests/faults` says how many injections there were.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tests.faults.injection import Fault, Kind
from tests.faults.jobs import JOBS
from tests.faults.stage import Stage

KINDS = (Kind.KILL, Kind.EIO, Kind.ENOSPC, Kind.FULL, Kind.EDQUOT, Kind.TERM, Kind.SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JOBS)
def test_a_fault_at_any_file_operation_leaves_nothing_wrong(
    name: str, kind: Kind, tmp_path: Path, digits: Path
) -> None:
    stage = Stage(JOBS[name], tmp_path, digits)
    failures: list[str] = []
    for at in itertools.count(1):
        try:
            if not stage.inject(Fault(kind, at)):
                break
        except AssertionError as failure:
            failures.append(str(failure))
    print(f"{at - 1} injections of {kind.name} into {name}, {len(failures)} violations")  # noqa: T201
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize(
    "name", ["train", "oneshot", "export for OpenLTH", "prepare", "gc of packed runs", "pack", "unpack one"]
)
def test_a_fault_at_some_file_operations_leaves_nothing_wrong(name: str, tmp_path: Path, digits: Path) -> None:
    stage, drawn = Stage(JOBS[name], tmp_path, digits), random.Random(name)
    struck = [stage.inject(Fault(drawn.choice(KINDS), drawn.randint(1, 40))) for _ in range(10)]

    print(f"{sum(map(bool, struck))} injections into {name}")  # noqa: T201
    assert any(struck)


@pytest.mark.parametrize("name", ["train", "push", "pull", "import of shared runs"])
def test_a_quota_that_is_used_up_leaves_runs_that_the_same_command_goes_on_with(
    name: str, tmp_path: Path, digits: Path
) -> None:
    stage = Stage(JOBS[name], tmp_path, digits)

    places = range(1, stage.operations, max(1, stage.operations // 25))

    struck = list(itertools.takewhile(bool, (stage.inject(Fault(Kind.EDQUOT, at)) for at in places)))

    assert len(struck) > 4


@pytest.mark.parametrize(
    ("name", "kind", "at"),
    [
        ("add images", Kind.EIO, 3),  # a folder that cannot be listed was silently excluded
        ("add arrays", Kind.EIO, 34),  # an added dataset that could not be read back was reported as an unknown name
        ("sweep of branches", Kind.KILL, 10),  # its record of itself stayed
        ("sweep of branches", Kind.EIO, 65),  # it waited without end for a job of its own, which waited for another one
    ],
)
def test_a_fault_that_once_did_harm_does_none(name: str, kind: Kind, at: int, tmp_path: Path, digits: Path) -> None:
    assert Stage(JOBS[name], tmp_path, digits).inject(Fault(kind, at))
