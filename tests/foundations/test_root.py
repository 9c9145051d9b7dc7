"""Roots with upstreams, through the classes that plans and readers use."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from foundations.errors import EnvironmentFailure, PublishedFirst, UsageError
from foundations.plan import Target, plan
from foundations.storage.adopt import adopt
from foundations.storage.packing import pack
from foundations.storage.root import Root
from foundations.storage.run import Run
from foundations.storage.store import all_names, all_runs, find_run
from foundations.storage.upkeep import mend, remove, verify
from tests.foundations.toy_descriptions import ToyBranch, bytes_under, complete_run, state, state_of, step, toy

MAIN = toy()
BRANCH = ToyBranch(main=MAIN, state=state_of(MAIN, 0))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    complete_run(tmp_path / "lab", MAIN)
    return tmp_path / "lab"


@pytest.fixture
def root(tmp_path: Path, lab: Path) -> Root:
    return Root(tmp_path / "mine", [lab])


def test_a_root_is_the_path_of_its_own_folder(root: Root, tmp_path: Path) -> None:
    assert root == tmp_path / "mine" and str(root) == str(tmp_path / "mine")
    assert type(root / "a" / "b") is type(Path())
    assert root / "a" == tmp_path / "mine" / "a"


def test_a_root_in_another_process_has_the_same_upstreams_and_leaves_out_the_same_runs(root: Root, lab: Path) -> None:
    root.leave_out(lab, MAIN.location(1))

    copy = pickle.loads(pickle.dumps(root))

    assert copy.upstreams == (lab,)
    assert copy.upstream_of(MAIN.location(1)) is None


def test_upstreams_are_asked_for_only_when_they_are_needed(tmp_path: Path) -> None:
    def fail() -> list[Path]:
        raise UsageError("asked")

    root = Root(tmp_path, fail)

    assert root / "a" == tmp_path / "a"
    with pytest.raises(UsageError, match="asked"):
        _ = root.upstreams


def test_runs_are_found_in_the_root_and_in_upstreams_each_once(root: Root, lab: Path) -> None:
    complete_run(root, BRANCH)
    complete_run(lab, BRANCH)
    complete_run(lab, MAIN, replicate=2)

    found = [(str(run), run.upstream) for run in all_runs(root)]

    assert found == [
        (str(MAIN.location(1)), lab),
        (str(BRANCH.location(1)), None),
        (str(MAIN.location(2)), lab),
    ]
    assert len(list(all_names(root))) == 3
    assert find_run(root, f"{MAIN.digest[:8]}/2").folder == MAIN.location(2).under(lab)
    assert find_run(root, str(MAIN.location(2).under(lab))).upstream == lab


def test_a_plan_reuses_runs_of_upstreams_and_plans_the_others(root: Root, lab: Path) -> None:
    made = plan([Target(BRANCH)], root)

    assert [planned.desc for planned in made.to_do()] == [BRANCH]
    assert made[MAIN.location(1)].run.folder == MAIN.location(1).under(lab)


def test_an_incomplete_run_of_an_upstream_does_not_count(root: Root, lab: Path) -> None:
    (MAIN.location(1).under(lab) / "manifest.json").unlink()

    assert list(all_runs(root)) == []
    assert Run(root, MAIN.location(1)).upstream is None
    with pytest.raises(UsageError, match="No run under"):
        find_run(root, MAIN.digest)


def test_a_damaged_run_of_one_upstream_is_taken_from_the_next(tmp_path: Path, lab: Path) -> None:
    shutil.copytree(lab, tmp_path / "second")
    (MAIN.location(1).under(lab) / "metrics.csv").write_text("")
    made = plan([Target(MAIN)], Root(tmp_path / "mine", [lab, tmp_path / "second"]))

    (planned,) = made

    assert planned.is_done and planned.run.upstream == tmp_path / "second"
    assert str(lab) in planned.left_out[0] and "metrics.csv" in planned.left_out[0]


def test_nothing_of_an_upstreams_run_is_written_removed_or_mended(root: Root, lab: Path) -> None:
    run, before = Run(root, MAIN.location(1)), bytes_under(lab)

    for write in (
        lambda: run.write("metrics.csv", b""),
        lambda: run.log("a line"),
        lambda: run.add("metrics.csv"),
        lambda: run.amended(without=["metrics.csv"]),
        lambda: run.set_aside("metrics.csv"),
        run.withdraw,
        lambda: mend(run),
        lambda: remove(run),
    ):
        with pytest.raises(EnvironmentFailure, match="never written"):
            write()
    run.save_failure({"reason": "a test"})
    assert run.failure() == {"reason": "a test"}
    run.clear_failure()
    run.remove_state(step(0))
    run.undo_create(step(0))

    assert verify(run) == []
    assert bytes_under(lab) == before


def test_an_adopted_run_has_the_bytes_of_the_upstreams(root: Root, lab: Path) -> None:
    run, said = Run(root, MAIN.location(1)), list[str]()
    with run.locked(said.append):
        adopt(run, said.append)

    assert run.upstream is None and run.folder == MAIN.location(1).under(root.alone)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == {
        path.name: path.read_bytes() for path in MAIN.location(1).under(lab).iterdir() if path.name != "log.txt"
    }
    assert verify(run) == [] and str(lab) in said[0]


def test_a_run_that_vanishes_from_an_upstream_is_an_error_with_one_sentence(root: Root, lab: Path) -> None:
    made = plan([Target(BRANCH)], root)
    shutil.rmtree(MAIN.location(1).under(lab))
    with pytest.raises(EnvironmentFailure, match=f"{lab} no longer holds"):
        made[MAIN.location(1)].refresh()
    shutil.rmtree(lab)
    with pytest.raises(EnvironmentFailure, match=f"The upstream {lab} is not there"):
        Run(root, MAIN.location(1)).folder  # noqa: B018


def test_later_manifests_of_an_upstream_count_and_are_copied(root: Root, lab: Path) -> None:
    Run(lab, MAIN.location(1)).amended(without=[Run.state_name(step(0))], evicted=True)
    Run(lab, MAIN.location(1)).path(Run.state_name(step(0))).unlink()
    run, before = Run(root, MAIN.location(1)), bytes_under(lab)

    assert not run.has_state(step(0)) and run.has_state(step(10))
    with run.locked(lambda _: None):
        adopt(run, lambda _: None)

    assert run.upstream is None and run.manifest_number() == 2
    assert run.evicted_states(5) == [step(0)] and run.left_out() == [Run.state_name(step(0))]
    assert verify(run) == [] and bytes_under(lab) == before


def test_a_packed_run_of_an_upstream_counts_and_is_copied_into_a_folder(root: Root, lab: Path) -> None:
    files = bytes_under(MAIN.location(1).under(lab))
    pack([Run(lab, MAIN.location(1))], lambda _: None)
    before = bytes_under(lab)

    (run,) = all_runs(root)
    assert run.upstream == lab and run.has_state(step(0)) and verify(run) == []
    assert plan([Target(MAIN)], root).to_do() == []
    assert find_run(root, MAIN.digest[:8]).upstream == lab
    with run.locked(lambda _: None):
        adopt(run, lambda _: None)

    copied = Run(root, MAIN.location(1))
    assert copied.upstream is None and copied.place == copied.final
    own = {path.name: data for path, data in bytes_under(copied.final).items()}
    assert own == {path.name: data for path, data in files.items() if path.name != "log.txt"}
    assert bytes_under(lab) == before


def test_a_run_packed_in_ones_own_root_counts_more_than_an_upstreams(root: Root) -> None:
    complete_run(root.alone, MAIN)
    pack([Run(root.alone, MAIN.location(1))], lambda _: None)

    assert Run(root, MAIN.location(1)).upstream is None
    assert [run.upstream for run in all_runs(root)] == [None]


def test_an_upstream_with_a_pack_that_cannot_be_read_is_named(root: Root, lab: Path) -> None:
    pack([Run(lab, MAIN.location(1))], lambda _: None)
    (found,) = (lab / ".packs").iterdir()
    found.write_bytes(found.read_bytes()[:-30])

    with pytest.raises(EnvironmentFailure, match=rf"^The upstream {lab} has a damaged pack .*ask its owner"):
        list(all_runs(root))


def test_the_lock_of_an_upstreams_run_leaves_an_interrupted_one_here_and_no_other_folder(root: Root, lab: Path) -> None:
    run = Run(root, MAIN.location(1))
    with run.locked(lambda _: None):
        run.begin()
    assert [path.name for path in root.iterdir()] == [".locks"]

    interrupted = Run(root.alone, MAIN.location(1))
    with interrupted.locked(lambda _: None):
        interrupted.create(MAIN)
        interrupted.save_state(step(0), state(0.0))
    with run.locked(lambda _: None):
        assert run.upstream == lab

    assert Run(root.alone, MAIN.location(1)).has_state(step(0))


def test_a_copy_that_another_process_overtakes_leaves_the_run_of_that_process(root: Root, lab: Path) -> None:
    run, manifest = Run(root, MAIN.location(1)), Run(lab, MAIN.location(1)).read_manifest()
    assert manifest is not None
    with pytest.raises(PublishedFirst), run.copied(manifest.generation) as folder:
        own = complete_run(root.alone, MAIN)
        before = bytes_under(own.place)
        (folder / "description.json").write_text("{}")

    assert run.upstream is None and bytes_under(own.place) == before
    assert not own.generations.folder.exists()


def test_an_upstream_of_a_newer_format_is_refused_by_number(root: Root, lab: Path) -> None:
    (lab / "format.json").write_text('{"format": 7}')

    with pytest.raises(EnvironmentFailure, match=r"format.json is of format 7"):
        plan([Target(MAIN)], root)
