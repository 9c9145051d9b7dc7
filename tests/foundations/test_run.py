"""The directory of a run: its place, its files, and its completeness."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundations.description.address import Location
from foundations.errors import DamagedError, EnvironmentFailure
from foundations.files import sha256_of_file
from foundations.metrics import Metrics
from foundations.storage.manifest import Manifest
from foundations.storage.run import Run
from foundations.storage.upkeep import verify
from tests.foundations.toy_descriptions import (
    ToyBranch,
    ToyDesc,
    ToyHparams,
    bytes_under,
    complete_run,
    flip_a_bit,
    state,
    state_of,
    step,
)

STATE = "state_ep2_it0.safetensors"


# Where it is.


def test_a_run_is_under_its_digest_and_replicate(tmp_path: Path) -> None:
    desc = ToyDesc()

    assert Run(tmp_path, desc.location(3)).folder == tmp_path / f"train_{desc.digest}" / "replicate_3" / "main"


def test_a_branch_is_beside_its_main_run(tmp_path: Path) -> None:
    desc = ToyBranch(main=ToyDesc())
    folder = Run(tmp_path, desc.location(1)).folder

    assert folder.parent == Run(tmp_path, ToyDesc().location(1)).folder.parent
    assert folder.name == f"branch_toy_{desc.digest}"


# Creation.


def test_a_run_exists_once_it_is_created(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    assert not run.exists()

    run.create(ToyDesc())

    assert run.exists()
    assert run.record()["digest"] == ToyDesc().digest


def test_creating_a_run_again_changes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    before = bytes_under(tmp_path)

    run.create(ToyDesc())

    assert bytes_under(tmp_path) == before


def test_a_run_that_was_only_created_can_be_undone(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())

    run.undo_create()

    assert [path.name for path in tmp_path.iterdir()] == ["format.json"]


def test_undoing_spares_a_run_that_holds_more_than_its_description(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    run.save_state(step(0), state(0.0))
    before = bytes_under(tmp_path)

    run.undo_create()
    assert bytes_under(tmp_path) == before

    run.undo_create(step(0))
    assert not run.exists()


def test_undoing_spares_the_runs_beside_it(tmp_path: Path) -> None:
    main, branch = complete_run(tmp_path), Run(tmp_path, ToyBranch(main=ToyDesc()).location(1))
    branch.create(ToyBranch(main=ToyDesc()))

    branch.undo_create()

    assert main.exists()
    assert not branch.folder.exists()


def test_a_directory_whose_description_does_not_hash_to_its_name_is_refused(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    other = Run(tmp_path, Location("train_" + "0" * 32, 1, "main"))
    other.folder.parent.mkdir(parents=True)
    run.folder.rename(other.folder)

    with pytest.raises(DamagedError, match="does not describe the directory that it is in"):
        other.record()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["canonical"]["training"].update(rate=0.6),
        lambda record: record.update(digest="0" * 32),
        lambda record: record.pop("canonical"),
        lambda record: record.pop("hyperparameters"),
        lambda record: record.update(hyperparameters={"training": 3}),
        lambda record: record.update(hyperparameters=[1, 2]),
    ],
)
def test_a_changed_description_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    run = complete_run(tmp_path)
    record = json.loads((run.folder / "description.json").read_text())
    record.pop("sha256")  # a file without a checksum
    change(record)
    (run.folder / "description.json").write_text(json.dumps(record))

    with pytest.raises(DamagedError):
        run.check(ToyDesc())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff\xfe\x00"])
def test_a_description_that_is_not_an_object_is_damaged(tmp_path: Path, content: bytes) -> None:
    run = complete_run(tmp_path)
    (run.folder / "description.json").write_bytes(content)

    with pytest.raises(DamagedError, match=r"description\.json is damaged"):
        run.record()


def test_stored_hyperparameters_with_another_value_are_refused(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    record = json.loads((run.folder / "description.json").read_text())
    record.pop("sha256")  # a file without a checksum
    record["hyperparameters"]["training"]["rate"] = 0.7
    (run.folder / "description.json").write_text(json.dumps(record))

    with pytest.raises(DamagedError, match=r"rate=0\.7; 0\.5 was asked for under the same address"):
        run.check(ToyDesc())


# Completeness.


def test_a_run_is_complete_when_its_manifest_is_there(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    assert run.manifest() is None

    run.finish(Manifest(files={}, results={"test_accuracy": 0.25}))

    manifest = run.manifest()
    assert manifest is not None
    assert manifest.results == {"test_accuracy": 0.25}


def test_the_manifest_records_size_and_digest_of_every_file_but_the_growing_log(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    manifest = run.manifest()

    assert manifest is not None
    assert set(manifest.files) == {"description.json", "metrics.csv", "state_ep0_it0.safetensors", STATE}
    for name, record in manifest.files.items():
        assert (record.size, record.sha256) == (
            (run.folder / name).stat().st_size,
            sha256_of_file(run.folder / name),
        )


def test_the_checkpoint_is_gone_when_the_run_is_complete(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    run.save_checkpoint(state(1.0), {"step": 3})

    run.finish(Manifest(files={}, results={}))

    assert run.load_checkpoint() is None
    assert not list(run.folder.glob("checkpoint*"))


def test_a_line_in_the_log_leaves_a_run_complete(tmp_path: Path) -> None:
    run = complete_run(tmp_path)

    run.log("a state was replayed")

    assert run.manifest() is not None
    assert verify(run) == []


def test_results_that_are_no_numbers_can_be_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())

    run.finish(Manifest(files={}, results={"test_loss": None}))

    manifest = run.manifest()
    assert manifest is not None
    assert manifest.results == {"test_loss": None}


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    (run.folder / STATE).unlink()

    with pytest.raises(DamagedError, match=rf"{STATE} is damaged: it is missing\.\n.*verify {run.location} --mend"):
        run.manifest()


def test_a_file_of_another_size_is_damage(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    (run.folder / STATE).write_bytes(b"short")

    with pytest.raises(DamagedError, match=r"it has 5 bytes, not the \d+ of its manifest"):
        run.manifest()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"files": {"x": 3}, "results": {}}', b'{"files": {}, "surprise": 1}']
)
def test_a_manifest_that_cannot_be_read_is_damage(tmp_path: Path, content: bytes) -> None:
    run = complete_run(tmp_path)
    (run.folder / "manifest.json").write_bytes(content)

    with pytest.raises(DamagedError, match=r"manifest\.json is damaged"):
        run.manifest()


def test_a_run_does_not_finish_with_a_damaged_state(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    run.create(ToyDesc())
    run.save_state(step(0), state(0.0))
    flip_a_bit(run.folder / "state_ep0_it0.safetensors")

    with pytest.raises(DamagedError, match="state_ep0_it0"):
        run.finish(Manifest(files={}, results={}))

    assert run.manifest() is None


# Files.


def test_a_state_reads_back(tmp_path: Path) -> None:
    run = complete_run(tmp_path)

    loaded = run.load_state(step(10))

    assert set(loaded) == {"weight", "count"}
    assert torch.equal(loaded["weight"], state(1.0)["weight"])


def test_kept_states_are_listed_in_ascending_order(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    for iteration in (12, 3, 100):
        run.save_state(step(iteration), state(0.0))

    assert run.kept_states(5) == [step(3), step(12), step(100)]


def test_a_state_that_is_not_in_the_manifest_does_not_count_as_kept(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    run.save_state(step(3), state(0.5))
    assert not run.has_state(step(3))

    run.add(run.state_name(step(3)))

    assert run.has_state(step(3))
    assert verify(run) == []


def test_a_state_that_was_not_kept_is_a_failure_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match=r"state_ep1_it1\.safetensors"):
        complete_run(tmp_path).load_state(step(6))


def test_a_checkpoint_reads_back(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    facts = {"step": 3, "metrics": "text", "scaler": {"scale": 0.1}}

    run.save_checkpoint(state(2.0), facts)

    kept = run.load_checkpoint()
    assert kept is not None
    assert torch.equal(kept[0]["weight"], state(2.0)["weight"])
    assert kept[1] == facts


def test_metrics_read_back(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))
    assert run.metrics().values == {}

    run.save_metrics(Metrics({("test_loss", 5): 0.125}))

    assert run.metrics().values == {("test_loss", 5): 0.125}


def test_the_fingerprint_of_a_state_names_the_run_and_the_file(tmp_path: Path) -> None:
    run = complete_run(tmp_path)

    assert run.fingerprint(state_of(ToyDesc(), 10)) == {f"{run.location}/{STATE}": sha256_of_file(run.folder / STATE)}


# Locks.


def test_a_lock_sweeps_up_after_killed_writers_and_is_beside_the_runs(tmp_path: Path) -> None:
    run = complete_run(tmp_path)
    (run.folder / f".{STATE}.123.part").write_bytes(b"half")

    with run.locked(print):
        assert not list(run.folder.glob(".*"))

    assert not run.lock_path.is_relative_to(run.folder)


def test_a_root_that_cannot_be_made_is_a_failure_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / "file" / "root", ToyDesc().location(1))

    with pytest.raises(EnvironmentFailure, match="Cannot work in"), run.locked(print):
        raise AssertionError("never reached")


def test_an_error_inside_the_lock_is_not_blamed_on_the_root(tmp_path: Path) -> None:
    run = Run(tmp_path, ToyDesc().location(1))

    with pytest.raises(FileNotFoundError), run.locked(print):
        (tmp_path / "missing").read_text()


def test_two_descriptions_have_two_directories(tmp_path: Path) -> None:
    first, second = complete_run(tmp_path), complete_run(tmp_path, ToyDesc(training=ToyHparams(rate=0.25)))

    assert first.folder != second.folder
    assert verify(first) == verify(second) == []
