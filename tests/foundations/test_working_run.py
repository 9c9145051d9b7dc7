"""The folders of a run while it is under way, and what several processes may do to them."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from pathlib import Path

import pytest

from foundations.errors import Busy, DamagedError, EnvironmentFailure, PublishedFirst, TakenOver
from foundations.metrics import Metrics
from foundations.storage import locks
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from foundations.storage.store import all_runs, find_run
from foundations.storage.sweeps import known_sweeps
from foundations.storage.upkeep import mend, verify
from tests.foundations.toy_descriptions import ToyDesc, complete_run, flip_a_bit, state, step

EMPTY = Manifest(files={}, results={})


def begun(root: Path) -> Run:
    """Return a run with a checkpoint, as a process that may still work on it sees it."""
    run = Run(root, ToyDesc().location(1))
    run.create(ToyDesc())
    run.save_state(step(0), state(0.0))
    run.save_checkpoint(state(1.0), {"step": 3})
    return run


def of_format_1(run: Run) -> Run:
    """Put the files of a run that is not complete where format 1 had them."""
    run.folder.rename(run.place)
    run.generations.folder.rmdir()
    (run.root / "format.json").unlink()
    return Run(run.root, run.location)


def other_process() -> dict[str, object]:
    """Return the facts of another process that is alive."""
    parent = os.getppid()
    return {"pid": parent, "host": socket.gethostname(), "started": locks._start_of(parent)}


# One process.


def test_a_run_under_way_is_in_a_hidden_folder_and_listed(tmp_path: Path) -> None:
    run = begun(tmp_path)

    assert run.exists() and run.manifest() is None
    assert not run.place.exists()
    assert run.folder.parent == run.place.with_name(".main")
    assert [str(each) for each in all_runs(tmp_path)] == [str(run)]
    assert find_run(tmp_path, run.location.digest[:8]).exists()
    assert verify(run) == []


def test_a_finished_run_is_in_its_final_folder_alone(tmp_path: Path) -> None:
    run = begun(tmp_path)
    name = run.folder.name

    run.finish(EMPTY)

    manifest = run.manifest()
    assert manifest is not None and manifest.generation == name
    assert [path.name for path in run.place.parent.iterdir()] == ["main"]
    assert json.loads((run.place / "manifest.json").read_text())["format"] == 2
    assert json.loads((tmp_path / "format.json").read_text())["format"] == 2


def test_the_next_process_goes_on_with_the_files_of_an_interrupted_one(tmp_path: Path) -> None:
    begun(tmp_path)
    run = Run(tmp_path, ToyDesc().location(1))

    with run.locked(print):
        assert not run.create(ToyDesc())
        assert run.load_checkpoint() is not None
        assert run.has_state(step(0))
        run.finish(EMPTY)

    assert verify(run) == []


@pytest.mark.parametrize("text", ["", "open_prune: a message"])
def test_only_an_empty_output_is_dropped_once_another_process_has_published(text: str, tmp_path: Path) -> None:
    run = begun(tmp_path)
    output = run.output_path
    output.touch()
    run.drop_empty_output()
    assert output.exists()  # its job may still write

    run.finish(EMPTY)
    output.parent.mkdir()
    output.write_text(text)
    run.drop_empty_output()

    assert output.exists() == bool(text)
    assert output.parent.exists() == bool(text)


def test_output_and_failure_are_beside_the_working_folder_and_then_in_the_final_one(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.output_path.parent.mkdir(parents=True)
    run.output_path.write_text("a line\n")
    run.save_failure({"reason": "x"})
    assert not run.exists()
    assert run.failure() == {"reason": "x"}

    run.create(ToyDesc())
    assert run.output_path.parent == run.generations.folder
    run.finish(EMPTY)

    assert run.failure() is None
    assert run.output_path == run.place / "output.txt"
    assert run.output_path.read_text() == "a line\n"


@pytest.mark.parametrize("number", [3, 17])
def test_a_root_of_a_newer_format_is_refused_by_number(tmp_path: Path, number: int) -> None:
    run = begun(tmp_path)
    text = (tmp_path / "format.json").read_text()
    digest = json.loads(text)["sha256"]
    from foundations.storage import sealed_json

    (tmp_path / "format.json").write_bytes(sealed_json.to_bytes({"format": number}))
    assert digest not in (tmp_path / "format.json").read_text()

    for work in (
        lambda: list(all_runs(tmp_path)),
        lambda: find_run(tmp_path, "train"),
        lambda: known_sweeps(tmp_path),
        lambda: _lock(run),
    ):
        with pytest.raises(EnvironmentFailure, match=f"format.json is of format {number}, .* reads formats 1 to 2"):
            work()


def _lock(run: Run) -> None:
    with run.locked(print):
        raise AssertionError("never reached")


# Format 1.


def test_an_interrupted_run_of_format_1_is_read_and_continued(tmp_path: Path) -> None:
    run = of_format_1(begun(tmp_path))
    assert run.exists() and run.has_state(step(0)) and run.manifest() is None
    assert verify(run) == []
    assert [str(each) for each in all_runs(tmp_path)] == [str(run)]

    with run.locked(print):
        assert not run.create(ToyDesc())
        assert run.load_checkpoint() is not None
        run.finish(EMPTY)

    assert verify(run) == []
    assert [path.name for path in run.place.parent.iterdir()] == ["main"]


def test_a_run_of_format_1_in_the_way_of_a_finished_one_is_set_aside(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.place.mkdir()
    (run.place / "description.json").write_text("{}")

    run.finish(EMPTY)

    assert verify(run) == []


def test_a_complete_run_of_format_1_keeps_its_bytes_when_a_state_is_added(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    path = run.place / "manifest.json"
    tree = json.loads(path.read_text())
    for name in ("format", "generation", "sha256"):
        tree.pop(name)
    path.write_text(json.dumps(tree))
    before = {path.name: path.read_bytes() for path in run.place.iterdir()}

    run.save_state(step(3), state(0.5))
    run.add(run.state_name(step(3)))

    assert before.items() <= {path.name: path.read_bytes() for path in run.place.iterdir()}.items()
    assert run.has_state(step(3)) and run.has_state(step(0))
    assert verify(run) == []


# Several processes.


def test_a_file_is_read_also_while_another_process_renames_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, other = Run(tmp_path, ToyDesc().location(1)), begun(tmp_path)
    plain, moved = Run.path, list[str]()

    def path(self: Run, name: str) -> Path:
        found = plain(self, name)
        if self is reader and len(moved) < 2:  # it is taken over, then published
            moved.append(name)
            other._own = other.generations.claim(other.folder, is_owned=False) if len(moved) == 1 else other._own
            if len(moved) == 2:
                other.finish(EMPTY)
        return found

    monkeypatch.setattr(Run, "path", path)

    assert float(reader.read_tensors(reader.state_name(step(0)))[0]["weight"][0, 0]) == 0.0
    assert len(moved) == 2


def test_who_is_taken_over_says_by_whom_and_ends_before_the_next_checkpoint(tmp_path: Path) -> None:
    former = begun(tmp_path)
    with former.locked(print):
        former.create(ToyDesc())
        other = Run(tmp_path, ToyDesc().location(1))
        other.create(ToyDesc())

        for write in (
            lambda: former.save_checkpoint(state(2.0), {"step": 5}),
            lambda: former.log("a line"),
            lambda: former.finish(EMPTY),
        ):
            with pytest.raises(TakenOver, match=rf"^Another process has taken over or removed {former}, so"):
                write()
        other.finish(EMPTY)

    assert verify(other) == []


def test_who_has_taken_over_is_named_also_where_others_have_begun_since(tmp_path: Path) -> None:
    former = begun(tmp_path)
    with former.locked(print):
        former.create(ToyDesc())
        own, generations = former.folder, former.generations
        second = generations.claim(own, is_owned=True)
        assert second is not None
        third = generations.claim(second, is_owned=True)
        assert third is not None
        note = third.with_name(f"{third.name}.owner")
        note.write_text(json.dumps({**json.loads(note.read_text()), **other_process()}))
        later = generations.begin(is_owned=True)  # of a process that has taken nothing over
        assert later.name > third.name

        with pytest.raises(TakenOver) as caught:
            former.save_checkpoint(state(2.0), {"step": 5})

    parent = f"Process {os.getppid()} on {socket.gethostname()}"
    assert str(caught.value) == f"{parent} has taken over {former}, so this process ends its work."


@pytest.mark.parametrize("note", ["[1]", '{"claimed": 5}', '{"claimed": [{}]}', '{"claimed": "x"}', "{"])
def test_a_note_of_another_form_names_nobody(tmp_path: Path, note: str) -> None:
    former = begun(tmp_path)
    with former.locked(print):
        former.create(ToyDesc())
        new = former.generations.claim(former.folder, is_owned=False)
        assert new is not None
        new.with_name(f"{new.name}.owner").write_text(note)

        with pytest.raises(TakenOver, match="Another process has taken over or removed"):
            former.save_checkpoint(state(2.0), {"step": 5})


def test_who_comes_second_changes_nothing_and_says_who_was_first(tmp_path: Path) -> None:
    second = begun(tmp_path)
    with second.locked(print):
        second.create(ToyDesc())
        own = second.folder
        first = Run(tmp_path, ToyDesc().location(1))
        first._own = first.generations.begin(is_owned=False)
        first.create(ToyDesc())
        first.save_metrics(Metrics({("test_loss", 5): 0.125}))
        first.finish(EMPTY)
        before = {path: path.read_bytes() for path in first.place.iterdir()}

        with pytest.raises(PublishedFirst, match=rf"Process {os.getpid()} on .* published {first} first"):
            second.save_checkpoint(state(2.0), {"step": 5})

        assert not own.exists()
        assert {path: path.read_bytes() for path in first.place.iterdir()} == before
    assert verify(second) == []


def test_a_lock_that_keeps_nobody_out_is_noticed_and_the_other_process_left_alone(tmp_path: Path) -> None:
    run = begun(tmp_path)
    owner = run.folder.with_name(f"{run.folder.name}.owner")
    owner.write_text(json.dumps(other_process()))
    theirs, said = run.folder, list[str]()
    ours = Run(tmp_path, ToyDesc().location(1))

    with ours.locked(said.append):
        assert ours.create(ToyDesc())
        assert ours.folder != theirs and theirs.exists()

    (line,) = said
    assert line.count(". ") == 0 and line.endswith(".")
    assert "keeps nobody out" in line and f"process {os.getppid()} on " in line
    with ours.locked(print), pytest.raises(Busy, match=f"in use by process {os.getppid()}"):
        mend(ours)


def test_a_holder_that_was_killed_is_no_competitor(tmp_path: Path) -> None:
    run = begun(tmp_path)
    run.lock_path.parent.mkdir(exist_ok=True)
    facts = {**other_process(), "started": "another boot 12", "since": 1.0}
    run.lock_path.with_suffix(".holder").write_text(json.dumps(facts))
    said: list[str] = []

    with Run(tmp_path, run.location).locked(said.append):
        run.begin()

    assert said == []


def test_of_two_processes_that_add_a_state_the_first_counts(tmp_path: Path) -> None:
    complete_run(tmp_path)
    first, second = (Run(tmp_path, ToyDesc().location(1)) for _ in range(2))
    first.save_state(step(3), state(0.5))
    second.save_state(step(3), state(0.75))
    second.save_state(step(4), state(0.75))

    first.add(first.state_name(step(3)))
    second.add(second.state_name(step(3)), second.state_name(step(4)))

    assert float(second.load_state(step(3))["weight"][0, 0]) == 0.5
    assert second.has_state(step(4))
    assert verify(second) == []
    assert sorted(path.name for path in second.place.glob("manifest*")) == [
        "manifest.json",
        "manifest_2.json",
        "manifest_3.json",
    ]
    assert [path.name for path in second.place.parent.iterdir()] == ["main"]


def test_a_damaged_file_in_the_way_of_an_added_state_is_set_aside(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    (run.place / run.state_name(step(3))).write_bytes(b"half")
    run.save_state(step(3), state(0.5))

    run.add(run.state_name(step(3)))

    assert run.has_state(step(3))
    assert verify(run) == []


def test_a_damaged_amendment_is_set_aside_and_the_manifest_before_counts(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    run.save_state(step(3), state(0.5))
    run.add(run.state_name(step(3)))
    flip_a_bit(run.place / "manifest_2.json")
    with pytest.raises(DamagedError, match="manifest_2.json is damaged"):
        run.manifest()

    assert mend(run) == ["manifest_2.json"]

    assert verify(run) == []
    assert not run.has_state(step(3))


def test_a_damaged_first_manifest_of_an_amended_run_is_found_and_replaced(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    run.save_state(step(3), state(0.5))
    run.add(run.state_name(step(3)))
    flip_a_bit(run.place / "manifest.json")

    assert [str(problem).partition(" is damaged")[0] for problem in verify(run)] == [str(run.place / "manifest.json")]
    assert mend(run) == ["manifest.json"]

    assert verify(run) == []
    assert run.has_state(step(3)) and run.has_state(step(10))


def test_a_file_that_is_removed_on_purpose_is_not_missed(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    before = run.manifest()
    run.amended(without=[run.state_name(step(10))])
    (run.place / run.state_name(step(10))).unlink()

    found = run.manifest()

    assert before is not None and found is not None
    assert dataclasses.replace(found, files=before.files) == before
    assert verify(run) == []


def test_a_replayed_state_must_have_the_bytes_with_which_the_run_was_completed(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    name = run.state_name(step(10))
    run.amended(without=[name])
    run.path(name).unlink()
    with pytest.raises(EnvironmentFailure, match=f"does not hold {name} here: it was left out"):
        run.load_state(step(10))
    run.save_state(step(10), state(2.0))

    with pytest.raises(EnvironmentFailure, match=f"does not reproduce {name}"):
        run.add(name)

    assert run.left_out() == [name] and not run.path(name).exists()
    assert [path.name for path in run.place.parent.iterdir()] == ["main"]
    run.save_state(step(10), state(1.0))
    run.add(name)
    assert run.left_out() == [] and run.has_state(step(10)) and verify(run) == []


# Runs that come from elsewhere.


@pytest.mark.parametrize("is_of_format_1", [False, True])
def test_a_run_that_arrives_never_replaces_one_that_is_under_way(tmp_path: Path, is_of_format_1: bool) -> None:
    came = complete_run(tmp_path / "elsewhere").place
    run = begun(tmp_path / "root")
    run = of_format_1(run) if is_of_format_1 else Run(run.root, run.location)

    assert not run.adopt(came)

    assert came.exists() and run.manifest() is None and run.load_checkpoint() is not None


def test_a_run_that_arrives_is_complete_in_a_root_that_states_its_format(tmp_path: Path) -> None:
    came = complete_run(tmp_path / "elsewhere")
    run = Run(tmp_path / "root", came.location)

    assert run.adopt(came.place)

    assert run.manifest() is not None and verify(run) == []
    assert (tmp_path / "root" / "format.json").exists()
    assert not run.adopt(complete_run(tmp_path / "second").place)


def test_a_state_is_read_until_gc_has_removed_its_file(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    name, expected = run.state_name(step(10)), run.load_state(step(10))

    run.amended(without=[name], evicted=True)  # `gc` asks next whether a process uses it

    found = Run(tmp_path, run.location).load_state(step(10))
    assert all(found[each].equal(expected[each]) for each in expected)
    run.path(name).unlink()
    with pytest.raises(EnvironmentFailure, match=f"gc` removed {name}"):
        run.load_state(step(10))
