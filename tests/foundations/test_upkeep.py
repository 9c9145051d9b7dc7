"""Verifying runs, and setting their damaged files aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundations.address import Location
from foundations.run import Run
from foundations.upkeep import mend, verify
from tests.foundations.toy_descriptions import ToyDesc, bytes_under, complete_run, flip_a_bit, state, step

STATE = "state_ep2_it0.safetensors"


def test_a_whole_run_has_no_problems(tmp_path: Path) -> None:
    assert verify(complete_run(tmp_path)) == []


@pytest.mark.parametrize("name", ["description.json", "metrics.csv", STATE, "manifest.json"])
def test_a_flipped_bit_in_any_file_is_a_problem_that_names_it(tmp_path: Path, name: str) -> None:
    run = complete_run(tmp_path)
    flip_a_bit(run.folder / name)

    problems = verify(run)

    assert problems
    assert any(name in str(problem) or name == "manifest.json" for problem in problems)


def test_a_flipped_bit_in_an_incomplete_runs_state_is_a_problem(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    run.save_state(step(0), state(0.0))
    flip_a_bit(run.folder / "state_ep0_it0.safetensors")

    assert len(verify(run)) == 1


def test_mending_sets_a_damaged_state_aside_and_leaves_the_run_complete(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    flip_a_bit(run.folder / STATE)
    damaged = (run.folder / STATE).read_bytes()

    aside = mend(run)

    assert aside == [STATE]
    assert (run.folder / f"damaged_{STATE}").read_bytes() == damaged
    assert verify(run) == []
    assert run.manifest() is not None
    assert not run.has_state(step(10))
    assert run.has_state(step(0))


def test_mending_a_missing_state_leaves_the_run_complete(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    (run.folder / STATE).unlink()

    assert mend(run) == [STATE]
    assert run.manifest() is not None


def test_mending_another_file_makes_the_run_incomplete_and_keeps_its_states(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    flip_a_bit(run.folder / "metrics.csv")

    assert mend(run) == ["metrics.csv"]
    assert run.manifest() is None
    assert run.kept_states(5) == [step(0), step(10)]


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"files": {"x": 3}}', b'{"files": {}, "surprise": 1}'])
def test_mending_sets_an_unreadable_manifest_aside(tmp_path: Path, content: bytes) -> None:
    run = complete_run(tmp_path)
    (run.folder / "manifest.json").write_bytes(content)

    assert mend(run) == ["manifest.json"]
    assert run.manifest() is None
    assert verify(run) == []
    assert run.kept_states(5) == [step(0), step(10)]


def test_mending_sets_an_unreadable_description_of_an_incomplete_run_aside(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    (run.folder / "description.json").write_text('{"kind":')
    assert verify(run)

    assert mend(run) == ["description.json"]
    run.create(ToyDesc())
    assert verify(run) == []


def test_mending_does_not_give_the_files_of_one_run_to_another(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    other = Run(tmp_path, Location("train_" + "0" * 32, 1, "main"))
    other.folder.parent.mkdir(parents=True)
    run.folder.rename(other.folder)

    assert mend(other) == []
    assert verify(other)


def test_mending_an_incomplete_run_sets_damaged_states_and_checkpoints_aside(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    run.save_state(step(0), state(0.0))
    run.save_state(step(5), state(0.0))
    run.save_checkpoint(state(1.0), {"step": 5})
    flip_a_bit(run.folder / "checkpoint.safetensors")
    (run.folder / "state_ep1_it0.safetensors").write_bytes(b"")

    assert sorted(mend(run)) == ["checkpoint.safetensors", "state_ep1_it0.safetensors"]
    assert run.kept_states(5) == [step(0)]
    assert run.load_checkpoint() is None
    assert verify(run) == []


def test_mending_a_whole_run_changes_no_byte(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    before = bytes_under(tmp_path)

    assert mend(run) == []
    assert bytes_under(tmp_path) == before
