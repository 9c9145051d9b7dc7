"""The runs of a plan, their order, and the files that it asks of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from foundations.description.desc import MaskOf, RunRef
from foundations.plan import Plan, Target, plan
from foundations.storage.run import Run
from tests.conftest import REPOSITORY
from tests.foundations.toy_descriptions import (
    ToyBranch,
    ToyDesc,
    ToyHparams,
    complete_run,
    state,
    state_of,
    step,
    toy,
)

MAIN = ToyDesc()
BRANCH = ToyBranch(main=MAIN, state=state_of(MAIN, 3))


def asked(made: Plan) -> list[tuple[str, list[int], bool]]:
    """Return kind, steps to keep and whether it must be complete, of each run of a plan."""
    return [(p.desc.kind, sorted(each.iteration for each in p.keep), p.is_target) for p in made]


def test_a_run_comes_after_what_it_draws_on_which_goes_no_further_than_needed(tmp_path: Path) -> None:
    made = plan([Target(BRANCH)], tmp_path)

    assert asked(made) == [("train", [3], False), ("toy", [0, 10], True)]
    assert [str(p.until) for p in made] == ["3it", "10it"]
    assert [p.status for p in made] == ["not begun", "not begun"]
    assert made.to_do() == list(made)


def test_a_shared_ancestor_is_planned_once_with_all_that_is_asked_of_it(tmp_path: Path) -> None:
    other = ToyBranch(main=MAIN, training=ToyHparams(rate=0.9), state=state_of(MAIN, 7))

    made = plan([Target(BRANCH), Target(other), Target(MAIN, keep=(step(5),))], tmp_path)

    assert asked(made) == [("train", [0, 3, 5, 7, 10], True), ("toy", [0, 10], True), ("toy", [0, 10], True)]


def test_of_a_run_that_has_what_is_asked_of_it_nothing_further_is_planned(tmp_path: Path) -> None:
    run = complete_run(tmp_path, BRANCH)
    child = ToyBranch(main=MAIN, state=state_of(BRANCH, 10))

    made = plan([Target(child)], tmp_path)

    assert [p.run.location for p in made] == [run.location, child.location(1)]
    assert [p.run.location for p in made.to_do()] == [child.location(1)]


def test_a_state_that_a_complete_run_did_not_keep_is_to_be_made(tmp_path: Path) -> None:
    complete_run(tmp_path, MAIN)

    made = plan([Target(BRANCH)], tmp_path)

    assert [(p.status, [str(each) for each in p.missing()]) for p in made] == [
        ("complete", ["3it"]),
        ("not begun", ["0it", "10it"]),
    ]


def test_a_file_that_the_manifest_does_not_list_does_not_count(tmp_path: Path) -> None:
    run = complete_run(tmp_path, MAIN)
    run.save_state(step(3), state(0.5))

    assert not plan([Target(MAIN, keep=(step(3),))], tmp_path)[run.location].is_done


def test_of_an_incomplete_run_every_state_counts(tmp_path: Path) -> None:
    run = Run(tmp_path, MAIN.location(1))
    run.create(MAIN)
    run.save_state(step(3), state(0.5))

    made = plan([Target(BRANCH)], tmp_path)

    assert made[run.location].is_done
    assert made[run.location].status == "incomplete"


def test_a_mask_asks_for_the_step_at_which_it_is_known_and_for_its_file(tmp_path: Path) -> None:
    giver = complete_run(tmp_path, BRANCH)
    taker = ToyBranch(main=MAIN, mask=MaskOf(RunRef(BRANCH)))

    without = plan([Target(taker)], tmp_path)[giver.location]
    assert (without.needs_mask, without.is_done) == (True, False)

    giver.path("mask.safetensors").write_bytes(b"mask")
    giver.path("sparsity.json").write_text("{}")

    assert plan([Target(taker)], tmp_path)[giver.location].is_done


def test_a_source_is_of_the_same_replicate_unless_it_names_another(tmp_path: Path) -> None:
    desc = ToyBranch(main=MAIN, state=state_of(MAIN, 0), other=state_of(MAIN, 10, replicate=5))

    made = plan([Target(desc, replicate=2)], tmp_path)

    assert [p.run.location.replicate for p in made] == [2, 5, 2]


def test_a_long_chain_takes_no_recursion(tmp_path: Path) -> None:
    desc: ToyDesc | ToyBranch = MAIN
    for _ in range(2000):
        desc = ToyBranch(main=MAIN, state=state_of(desc, 10))

    assert len(list(plan([Target(desc)], tmp_path))) == 2001


def begun(root: Path, desc: ToyBranch) -> None:
    """Leave the first state of a run."""
    run = Run(root, desc.location(1))
    run.create(desc)
    run.save_state(step(0), state(0.0))


def test_a_run_that_needs_more_after_it_was_found_done_comes_after_its_own_sources(tmp_path: Path) -> None:
    begun(tmp_path, BRANCH)
    between = ToyBranch(main=MAIN, state=state_of(BRANCH, 5))
    for first, second in ((state_of(BRANCH, 0), state_of(between, 10)), (state_of(between, 10), state_of(BRANCH, 0))):
        made = plan([Target(ToyBranch(main=MAIN, state=first, other=second))], tmp_path)

        assert [p.desc for p in made][:3] == [MAIN, BRANCH, between]


def test_a_later_target_may_need_more_of_a_run_that_an_earlier_one_found_done(tmp_path: Path) -> None:
    begun(tmp_path, BRANCH)
    users = [ToyBranch(main=MAIN, state=state_of(BRANCH, iteration)) for iteration in (0, 5)]

    made = plan([Target(user) for user in users], tmp_path)

    assert [p.desc for p in made] == [MAIN, BRANCH, *users]


def test_planning_imports_no_torch() -> None:
    script = (
        "import sys; from pathlib import Path; from tests.foundations.test_plan import *; "
        "list(plan([Target(BRANCH)], Path('/nowhere'))); print('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


@given(
    edges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10)), max_size=12),
    wanted=st.sets(st.integers(0, 12), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_every_run_comes_after_those_that_it_draws_on(edges: list[tuple[int, int, int]], wanted: set[int]) -> None:
    descs: list[ToyDesc | ToyBranch] = [toy(0.25), toy(0.75)]
    for number, (first, second, iteration) in enumerate(edges):
        sources = [state_of(descs[which % len(descs)], iteration) for which in (first, second)]
        rate = ToyHparams(rate=1.0 + number)
        descs.append(ToyBranch(main=MAIN, training=rate, state=sources[0], other=sources[1]))

    made = list(plan([Target(descs[which % len(descs)]) for which in wanted], Path("/nowhere")))

    place = {planned.run.location: number for number, planned in enumerate(made)}
    assert len(place) == len(made)
    for planned in made:
        for source in planned.desc.sources().values():
            location = source.run.location(1)
            assert place[location] < place[planned.run.location]
            assert source.step in made[place[location]].keep  # type: ignore[union-attr]
