"""Verifying runs, and setting their damaged files aside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.metrics import Metrics
from foundations.storage import sealed_json
from foundations.storage.run import Run
from foundations.storage.store import all_runs
from foundations.storage.upkeep import check_bytes, mend, verify
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


def test_checking_bytes_reads_smaller_files_first_and_stops_before_it_has_read_too_many(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    manifest = run.manifest()
    assert manifest is not None
    sizes = sorted(record.size for record in manifest.files.values())
    assert len(sizes) >= 3

    for count in range(len(sizes) + 1):
        assert check_bytes(run, manifest, sum(sizes[:count])) == sum(sizes[:count])
    assert check_bytes(run, manifest, sum(sizes[:2]) - 1) == sizes[0]
    assert check_bytes(run, manifest, sum(sizes) + 1) == sum(sizes)


def test_checking_bytes_names_a_file_that_is_not_the_manifests_as_far_as_it_reads(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    manifest = run.manifest()
    assert manifest is not None
    last = sorted(manifest.files, key=lambda name: manifest.files[name].size)[-1]
    total = sum(record.size for record in manifest.files.values())
    flip_a_bit(run.folder / last)

    with pytest.raises(DamagedError, match=last):
        check_bytes(run, manifest, total)
    assert check_bytes(run, manifest, total - 1) < total


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


@pytest.mark.parametrize("name", ["manifest.json", "description.json"])
def test_mending_leaves_a_run_of_a_newer_format_alone(tmp_path: Path, name: str) -> None:
    run = complete_run(tmp_path)
    newer = sealed_json.to_bytes({**json.loads((run.folder / name).read_bytes()), "format": 3})
    (run.folder / "manifest.json").unlink()
    (run.folder / name).write_bytes(newer)
    before = bytes_under(tmp_path)

    assert any(f"{name} is of format 3" in str(problem) for problem in verify(run))
    with pytest.raises(EnvironmentFailure, match="use a newer version"):
        mend(run)
    assert bytes_under(tmp_path) == before


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


def test_every_damaged_file_is_named(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    flip_a_bit(run.folder / "metrics.csv")
    flip_a_bit(run.folder / STATE)
    (run.folder / "state_ep0_it0.safetensors").unlink()

    text = "".join(map(str, verify(run)))

    assert all(name in text for name in ("metrics.csv", STATE, "state_ep0_it0.safetensors"))


def cut_off_run(root: Path, replicate: int = 1) -> Run:
    """Return a run with a state, a checkpoint and metrics, not complete."""
    run = Run(root, ToyDesc().location(replicate))
    run.create(ToyDesc())
    run.save_state(step(0), state(float(replicate)))
    run.save_checkpoint(state(float(replicate)), {"step": 3})
    run.save_sparsity({"density": 0.5})
    run.save_metrics(Metrics({("test_loss", 0): 1.0}))
    return run


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "state_ep0_it0.safetensors"])
def test_a_file_of_another_run_is_not_taken_for_this_ones(tmp_path: Path, name: str) -> None:
    run, other = cut_off_run(tmp_path, 3), cut_off_run(tmp_path, 4)
    shutil.copy(other.folder / name, run.folder / name)

    (problem,) = verify(run)

    assert name in str(problem) and str(other.location) in str(problem)
    with pytest.raises(DamagedError, match="written as"):
        _ = run.load_checkpoint() if name.startswith("checkpoint") else run.load_state(step(0))
    assert mend(run) == [name]
    assert verify(run) == []


def test_a_state_in_place_of_a_checkpoint_or_of_another_step_is_noticed(tmp_path: Path) -> None:
    run = cut_off_run(tmp_path)
    shutil.copy(run.folder / "state_ep0_it0.safetensors", run.folder / "checkpoint.safetensors")
    shutil.copy(run.folder / "state_ep0_it0.safetensors", run.folder / "state_ep1_it0.safetensors")

    assert len(verify(run)) == 2
    assert sorted(mend(run)) == ["checkpoint.safetensors", "state_ep1_it0.safetensors"]


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def a_pickle(path: Path) -> None:
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def deep(path: Path) -> None:
    path.write_bytes(b'{"a":' * 50_000)


INSTEAD = (a_folder, a_fifo, a_dangling_link, a_pickle, nothing, deep)


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize("name", ["description.json", "metrics.csv", STATE, "manifest.json"])
def test_anything_in_place_of_a_file_of_a_complete_run_is_found_and_set_aside(
    tmp_path: Path, name: str, instead: Callable[[Path], None]
) -> None:
    run = complete_run(tmp_path)
    instead(run.folder / name)

    assert any(name in str(problem) for problem in verify(run))
    assert name in mend(run)
    assert run.create(ToyDesc()) or name != "description.json"
    assert verify(run) == []


@pytest.mark.parametrize("instead", INSTEAD)
@pytest.mark.parametrize(
    "name", ["description.json", "metrics.csv", "sparsity.json", "checkpoint.safetensors", "state_ep0_it0.safetensors"]
)
def test_anything_in_place_of_a_file_of_a_cut_off_run_is_found_and_set_aside(
    tmp_path: Path, name: str, instead: Callable[[Path], None]
) -> None:
    run = cut_off_run(tmp_path)
    instead(run.folder / name)

    assert any(name in str(problem) for problem in verify(run))
    assert mend(run) == [name]
    run.create(ToyDesc())
    assert verify(run) == []


def test_a_changed_description_is_set_aside_where_the_tensors_show_whose_directory_it_is(tmp_path: Path) -> None:
    run = cut_off_run(tmp_path)
    path = run.folder / "description.json"
    path.write_text(path.read_text().replace(run.location.digest, "0" * 32))

    assert verify(run)
    assert mend(run) == ["description.json"]
    run.create(ToyDesc())
    assert verify(run) == []


def test_what_was_set_aside_before_stays(tmp_path: Path) -> None:
    run = cut_off_run(tmp_path)
    for content in (b"first", b"second"):
        (run.folder / "checkpoint.safetensors").write_bytes(content)
        mend(run)

    assert (run.folder / "damaged_checkpoint.safetensors").read_bytes() == b"first"
    assert (run.folder / "damaged_checkpoint.safetensors.2").read_bytes() == b"second"


def test_a_manifest_that_names_a_file_elsewhere_moves_nothing(tmp_path: Path) -> None:
    run, victim = complete_run(tmp_path), tmp_path / "victim.txt"
    victim.write_text("mine")
    tree = {"files": {f"../../../{victim.name}": {"size": 1, "sha256": "0" * 64}}, "results": {}}
    (run.folder / "manifest.json").write_text(json.dumps(tree))

    assert verify(run)
    assert mend(run) == ["manifest.json"]
    assert victim.read_text() == "mine"


def _removed(run: Run, iteration: int) -> str:
    """Remove a state on purpose; return its name."""
    name = run.state_name(step(iteration))
    run.amended(without=[name])
    (run.place / name).unlink()
    return name


def _replay(run: Run, iteration: int, value: float) -> None:
    with run.locked(print):
        run.save_state(step(iteration), state(value))
        run.add(run.state_name(step(iteration)))


@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.write_bytes(b""), None])
def test_mending_the_first_manifest_keeps_the_digests_that_later_ones_have(
    tmp_path: Path, damage: Callable[[Path], object] | None
) -> None:
    run, said = complete_run(tmp_path), list[str]()
    _replay(run, 5, 0.5)
    gone = [_removed(run, 5), _removed(run, 0)]
    first = run.place / "manifest.json"
    if damage is None:
        first.unlink()
        first.mkdir()
    else:
        damage(first)

    with run.locked(print):
        assert mend(run, said.append) == ["manifest.json"]

    assert verify(run) == [] and run.manifest() is not None
    assert run.left_out() == sorted(gone)
    with pytest.raises(EnvironmentFailure, match="does not reproduce"):
        _replay(run, 0, 9.0)
    _replay(run, 0, 0.0)
    assert run.has_state(step(0))
    assert len(said) == 1 and "manifest.json was written again from the later ones" in said[0]
    assert "SHA-256 of 2 file(s) that are not kept here" in said[0] and "are lost" in said[0]


def test_mending_the_first_manifest_reports_that_digests_may_be_lost_with_it(tmp_path: Path) -> None:
    run, said = complete_run(tmp_path), list[str]()
    gone = _removed(run, 0)
    _replay(run, 5, 0.5)
    (run.place / "manifest_2.json").unlink()  # such a state is in no later manifest
    content = (run.place / "manifest.json").read_bytes()[:-9]
    (run.place / "manifest.json").write_bytes(content)

    with run.locked(print):
        mend(run, said.append)

    assert gone not in run.left_out()
    assert "Those of files that only the damaged one listed are lost" in said[0]
    assert (run.place / "damaged_manifest.json").read_bytes() == content


def test_a_run_stays_complete_while_its_first_manifest_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = complete_run(tmp_path)
    _removed(run, 0)
    flip_a_bit(run.place / "manifest.json")
    seen, replace, rename = list[bool](), os.replace, os.rename

    def watch(work: Callable[..., None]) -> Callable[..., None]:
        def changed(*names: object) -> None:
            work(*names)
            seen.append((run.place / "manifest.json").exists())

        return changed

    monkeypatch.setattr(os, "replace", watch(replace))
    monkeypatch.setattr(os, "rename", watch(rename))
    with run.locked(print):
        mend(run)

    assert seen and all(seen)


def test_mending_a_run_that_must_be_computed_again_names_the_states_that_it_forgets(tmp_path: Path) -> None:
    run, said = complete_run(tmp_path), list[str]()
    gone = _removed(run, 0)
    (run.place / "metrics.csv").write_text("damaged")

    with run.locked(print):
        assert mend(run, said.append) == ["metrics.csv"]

    assert run.manifest() is None
    assert len(said) == 1 and gone in said[0] and "is no longer complete" in said[0]


def test_a_mend_that_was_cut_after_any_file_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = complete_run(tmp_path)
    for name in ("description.json", "metrics.csv", "state_ep0_it0.safetensors"):
        flip_a_bit(run.folder / name)
    set_aside, count = Run.set_aside, 0

    def cut(self: Run, name: str) -> None:
        nonlocal count
        set_aside(self, name)
        count += 1
        if count == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "set_aside", cut)
    with pytest.raises(KeyboardInterrupt), run.locked(print):
        mend(run)

    (again,) = all_runs(tmp_path)
    with again.locked(print):
        mend(again)

    left = [path.name for path in tmp_path.rglob("*") if path.name.startswith(("description", "metrics", "state_ep0"))]
    assert left == []
