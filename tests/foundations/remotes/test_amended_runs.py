"""An amended run arrives with its present files, and with the digests of those with which it was completed."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundations.errors import EnvironmentFailure
from foundations.storage.manifest import MANIFEST
from foundations.storage.run import Run
from foundations.storage.upkeep import verify
from tests.foundations.remotes.carrying import family, files_of, pull, push
from tests.foundations.toy_descriptions import complete_run, rewrite_state, state, step


def removed(run: Run, iteration: int) -> None:
    """Remove a state on purpose."""
    name = run.state_name(step(iteration))
    run.amended(without=[name])
    (run.place / name).unlink()


def replayed(run: Run, iteration: int, value: float) -> None:
    """Add a state, as a replay does."""
    with run.locked(print):
        run.save_state(step(iteration), state(value))
        run.add(run.state_name(step(iteration)))


def test_a_state_that_a_shallow_pull_left_out_must_be_replayed_to_the_same_bytes(url: str, tmp_path: Path) -> None:
    _, child, grandchild = family(tmp_path / "here")
    push(url, tmp_path / "here")
    pull(url, tmp_path / "there", [grandchild.location], shallow=True)
    source = Run(tmp_path / "there", child.location)
    name = source.state_name(step(0))
    assert source.left_out() == [name]

    with pytest.raises(EnvironmentFailure, match=f"does not reproduce {name}, which is not kept here"):
        replayed(source, 0, 9.0)
    assert not source.has_state(step(0))
    replayed(source, 0, 0.0)

    assert source.has_state(step(0)) and verify(source) == []
    assert (source.place / name).read_bytes() == (child.place / name).read_bytes()


def test_a_run_whose_states_were_removed_and_added_arrives_with_its_first_manifest(url: str, tmp_path: Path) -> None:
    run = complete_run(tmp_path / "here")
    replayed(run, 5, 0.5)
    removed(run, 0)

    push(url, tmp_path / "here")
    pull(url, tmp_path / "there")

    arrived = Run(tmp_path / "there", run.location)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert (arrived.place / MANIFEST).read_bytes() == (run.place / MANIFEST).read_bytes()
    assert arrived.manifest() == run.manifest() and arrived.first_manifest() == run.first_manifest()
    assert arrived.left_out() == run.left_out() == ["state_ep0_it0.safetensors"]
    assert verify(arrived) == []


def test_a_manifest_of_format_1_arrives_with_its_bytes(url: str, tmp_path: Path) -> None:
    run = complete_run(tmp_path / "here")
    text = (run.place / MANIFEST).read_text().replace(' "format": 2,\n', "")
    lines = [line for line in text.splitlines() if not line.startswith((' "sha256"', ' "run"', ' "generation"'))]
    (run.place / MANIFEST).write_text("\n".join(lines) + "\n")
    before = (run.place / MANIFEST).read_bytes()
    assert verify(run) == []

    push(url, tmp_path / "here")
    pull(url, tmp_path / "there")

    assert [path.read_bytes() for path in (tmp_path / "there").rglob("manifest*.json")] == [before]


def test_states_that_two_people_push_come_together_below_the_first_manifest_of_the_first(
    url: str, tmp_path: Path
) -> None:
    ours = complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    theirs = complete_run(tmp_path / "other")  # the same files, computed at another time
    replayed(theirs, 5, 0.5)
    removed(theirs, 0)

    assert push(url, tmp_path / "other").problems == []
    pull(url, tmp_path / "there")

    arrived = Run(tmp_path / "there", ours.location)
    assert (arrived.place / MANIFEST).read_bytes() == (ours.place / MANIFEST).read_bytes()
    assert [arrived.has_state(step(at)) for at in (0, 5, 10)] == [True] * 3
    assert verify(arrived) == []


def test_a_run_of_other_bytes_is_refused_although_they_were_removed_here(url: str, tmp_path: Path) -> None:
    complete_run(tmp_path / "here")
    push(url, tmp_path / "here")
    removed(complete_run(tmp_path / "other", last=2.0), 10)

    found = push(url, tmp_path / "other")

    assert "the remote has other bytes of state_ep2_it0.safetensors" in found.problems[0]


def test_a_manifest_that_is_not_an_amendment_of_the_first_is_named_and_not_pushed(url: str, tmp_path: Path) -> None:
    run = complete_run(tmp_path / "here")
    rewrite_state(run, step(10), state(2.0))

    found = push(url, tmp_path / "here")

    assert found.sent == []
    assert "state_ep2_it0.safetensors is not the one of the first manifest" in found.problems[0]
