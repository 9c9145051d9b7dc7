"""Finding runs by address, and the dependencies between runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundations.description.desc import MaskOf, RunRef
from foundations.errors import UsageError
from foundations.storage.store import all_runs, find_run, short_address, source_runs, with_users
from tests.foundations.toy_descriptions import ToyBranch, ToyDesc, complete_run, state_of

MAIN = ToyDesc()
BRANCH = ToyBranch(main=MAIN, state=state_of(MAIN, 0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    complete_run(tmp_path, MAIN)
    complete_run(tmp_path, BRANCH)
    return tmp_path


@pytest.mark.parametrize(
    "address",
    [
        BRANCH.digest,
        BRANCH.digest[:6],
        f"{BRANCH.digest[:8]}/1",
        "branch_toy",
        f"branch_toy_{BRANCH.digest}",
        str(BRANCH.location(1)),
        f"{BRANCH.location(1)}/",
    ],
)
def test_a_run_is_found_by_any_unique_prefix_of_its_address(root: Path, address: str) -> None:
    assert find_run(root, address).location == BRANCH.location(1)


def test_the_folder_itself_names_a_run(root: Path) -> None:
    assert find_run(root, str(MAIN.location(1).under(root))).location == MAIN.location(1)


def test_the_short_address_finds_its_run(root: Path) -> None:
    for run in all_runs(root):
        assert find_run(root, short_address(run)).location == run.location


def test_an_address_of_no_run_is_refused(root: Path) -> None:
    for address in ("0" * 32, "", "a/b/c"):
        with pytest.raises(UsageError, match="No run under"):
            find_run(root, address)


def test_an_address_of_several_replicates_is_refused_unless_one_is_preferred(root: Path) -> None:
    complete_run(root, BRANCH, replicate=2)

    with pytest.raises(UsageError, match="may mean 2 runs"):
        find_run(root, BRANCH.digest)
    assert find_run(root, BRANCH.digest, prefer=2).location == BRANCH.location(2)
    assert find_run(root, f"{BRANCH.digest}/1", prefer=2).location == BRANCH.location(1)


def test_a_run_names_those_that_it_draws_on_each_once(root: Path) -> None:
    both = ToyBranch(main=MAIN, mask=MaskOf(RunRef(BRANCH)), state=state_of(BRANCH, 10), other=state_of(MAIN, 0, 7))
    run = complete_run(root, both, replicate=3)

    assert [source.location for source in source_runs(run)] == [BRANCH.location(3), MAIN.location(7)]
    assert source_runs(find_run(root, str(MAIN.location(1)))) == []


def test_the_users_of_a_run_are_those_that_draw_on_it_and_those_that_draw_on_these(root: Path) -> None:
    elsewhere = ToyDesc(training=type(MAIN.training)(rate=0.9))
    complete_run(root, elsewhere)
    child = complete_run(root, ToyBranch(main=elsewhere, state=state_of(BRANCH, 10)))

    assert [user.location for user in with_users([find_run(root, BRANCH.digest)])[:-1]] == [child.location]
    assert {user.location for user in with_users([find_run(root, MAIN.digest)])[:-1]} == {
        BRANCH.location(1),
        child.location,
    }
    assert with_users([child]) == [child]
