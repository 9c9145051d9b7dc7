"""Two users of a group, by four umasks and four kinds of roots (`python -m tests.faults.two_users` prints all)."""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from foundations.errors import Busy
from foundations.storage.locks import lock
from tests.cli.terminal import Result
from tests.faults.two_users import (
    ACTIONS,
    ANN,
    BOB,
    BRANCH,
    LAB,
    ROOTS,
    TRAIN,
    UMASKS,
    Place,
    end_after_checkpoint,
    place_of,
    tried,
    warm,
)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act as two other users"
)
LOOKING = {"list", "show", "report", "export", "measure", "reuse", "use the prepared dataset"}
"""Works where the first user's files may be read."""
BESIDE = set(ACTIONS) - {"mend", "prepare a dataset", "remove"}
"""Works where the second user has a root, and the first user's is the upstream."""
WORKING = {
    ("own root", 0o002): LOOKING,
    ("own root", 0o007): set(),
    ("own root", 0o022): LOOKING,
    ("own root", 0o077): set(),
    ("group root", 0o002): set(ACTIONS),
    ("group root", 0o007): set(ACTIONS),
    ("group root", 0o022): LOOKING | {"prepare a dataset"},
    ("group root", 0o077): {"prepare a dataset"},
    ("read-only root", 0o002): LOOKING,
    ("read-only root", 0o007): LOOKING,
    ("read-only root", 0o022): LOOKING,
    ("read-only root", 0o077): set(),
    ("read-only upstream", 0o002): BESIDE,
    ("read-only upstream", 0o007): BESIDE,
    ("read-only upstream", 0o022): BESIDE,
    ("read-only upstream", 0o077): set(),
}


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm()


QUICK = (
    ("own root", 0o022),
    ("group root", 0o007),
    ("group root", 0o022),
    ("read-only root", 0o077),
    ("read-only upstream", 0o022),
)
CASES = [
    pytest.param(kind, umask, marks=() if (kind, umask) in QUICK else pytest.mark.slow)
    for kind in ROOTS
    for umask in UMASKS
]


@pytest.mark.parametrize(("kind", "umask"), CASES)
def test_a_second_user_may_do_what_the_permissions_say_and_is_told_who_can_change_them(kind: str, umask: int) -> None:
    with place_of(kind, umask) as place:
        said = tried(place)

    assert {name for name, sentence in said.items() if not sentence} == WORKING[kind, umask]
    for name, sentence in said.items():
        assert "Traceback" not in sentence
        assert "emove it" not in sentence and "rm '" not in sentence and "elete" not in sentence
        assert not sentence or re.search(r"belongs to (ann|root)\b|closed|No runs?\b|never written", sentence), (
            name,
            sentence,
        )


@pytest.fixture
def lab() -> Iterator[Place]:
    with place_of("group root", 0o007) as place:
        yield place


def worked(*results: Result) -> bool:
    assert [result.code for result in results] == [0] * len(results), results
    return True


def test_the_first_user_goes_on_with_the_work_of_the_second(lab: Place) -> None:
    lab.act(BOB, (*TRAIN, "--replicate=7"), prepare=partial(end_after_checkpoint, signal.SIGKILL))
    assert worked(*lab.act(BOB, ACTIONS["resume"], ACTIONS["mend"], ACTIONS["branch from it"]))

    assert worked(
        *lab.act(ANN, (*TRAIN, "--replicate=7"), ("verify",), ("rm", "--where=replicate=2", "--yes"), ("ls",))
    )

    assert not list(lab.root.glob("*/replicate_2/*"))


def test_all_that_either_user_makes_belongs_to_the_group_and_is_open_to_it(lab: Place) -> None:
    tried(lab)

    for path in lab.root.parent.rglob("*"):
        found = path.stat()
        wanted = 0o2770 if path.is_dir() else 0o660
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (LAB, wanted), path


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_stricter_umask_of_the_second_user_closes_only_what_that_user_makes(lab: Place, umask: int) -> None:
    theirs = lab.act(BOB, (*TRAIN, "--replicate=2"), (*TRAIN, "--replicate=6"), umask=umask)
    ours = lab.act(
        ANN, (*TRAIN, "--replicate=2"), (*BRANCH, "--strategy=random"), ("rm", "--where=replicate=6", "--yes")
    )

    assert worked(*theirs)
    if umask == 0o022:
        assert worked(*ours[:2])
        ours[2].assert_is_for_people(
            1, "Cannot remove", str(lab.root), f"user {BOB}, who can open it", "chmod -R g+rwX"
        )
        (folder,) = lab.root.glob("train_*/replicate_6/main")
        assert len(list(folder.iterdir())) > 3
    else:
        ours[0].assert_is_for_people(1, "Cannot read", f"user {BOB}, who can open it to the group {LAB}: `chmod g+r")
        assert worked(ours[1])


def test_a_run_that_was_resumed_under_another_umask_can_be_resumed_again(lab: Place) -> None:
    lab.act(BOB, (*TRAIN, "--replicate=8"), prepare=partial(end_after_checkpoint, signal.SIGKILL), umask=0o022)
    for path in lab.root.glob("train_*/replicate_8/**/"):
        path.chmod(0o2770)  # as `chmod g+w` on the folders alone, which leaves log.txt closed
    (log,) = lab.root.glob("train_*/replicate_8/**/log.txt")
    before = log.read_text()

    assert worked(*lab.act(ANN, (*TRAIN, "--replicate=8")))

    (log,) = lab.root.glob("train_*/replicate_8/main/log.txt")
    assert log.read_text().startswith(before)
    assert "Resuming" in log.read_text()


def test_a_lock_that_may_only_be_read_is_waited_for_like_any_other(lab: Place) -> None:
    path = lab.root / ".locks" / "some.lock"
    with lock(path, "some run", print):
        path.chmod(0o644)
        (said,) = lab.act(BOB, ("ls",), prepare=partial(_try_lock, path))

    assert f"Busy: some run is in use by process {os.getpid()}" in said.out


def _try_lock(path: Path) -> None:
    """Let the next command try a lock first, and print the result."""
    import cli.main

    def main(_argv: list[str]) -> int:
        try:
            with lock(path, "some run", print, wait=False):
                pass
        except Busy as busy:
            sys.stdout.write(f"Busy: {busy}")
        return 0

    setattr(cli.main, "main", main)  # noqa: B010


def test_nobody_may_take_away_what_a_closed_folder_holds(lab: Place) -> None:
    (closed,) = lab.root.glob("train_*/replicate_4/main")
    closed.chmod(0o2750)

    (refused,) = lab.act(BOB, ACTIONS["remove"])

    refused.assert_is_for_people(1, "Cannot remove", str(closed), "chmod -R g+rwX")
    assert worked(*lab.act(ANN, ("show", f"{closed.parent.parent.name}/4"), ("rm", "--where=replicate=4", "--yes")))


def test_who_would_remove_the_runs_of_others_is_told_whose_they_are(lab: Place) -> None:
    assert worked(*lab.act(BOB, ACTIONS["branch from it"]))

    (training,) = lab.root.glob("train_*")
    refused, listed = lab.act(ANN, ("rm", f"{training.name}/1", "--yes"), ("rm", "--where=replicate=1", "--dry_run"))

    refused.assert_is_for_people(2, f"1 run(s) belong to user {BOB}: ask before you remove them")
    assert f"1 run(s) belong to user {BOB}." in listed.out
