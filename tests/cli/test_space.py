from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.rows.run import open_run
from foundations.errors import UsageError
from foundations.storage.locks import lock
from foundations.storage.store import find_run
from tests.cli.conftest import BRANCH
from tests.cli.terminal import SHORT, Terminal

TRAIN = ("train", *SHORT)
LAST = "state_ep3_it0.safetensors"


def usage(terminal: Terminal, *arguments: str) -> dict[str, Any]:
    result = terminal.run("du", "--json", *arguments)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_du_counts_every_file_and_byte_under_the_root(two_runs: Terminal) -> None:
    files = [path for path in two_runs.root.rglob("*") if path.is_file()]

    found = usage(two_runs)

    assert found["total"]["files"] == len(files)
    assert found["total"]["bytes"] == sum(path.stat().st_size for path in files)
    for groups in found["by"].values():
        assert sum(group["files"] for group in groups.values()) == len(files)
    assert found["by"]["kind"]["states"]["files"] == 4
    assert set(found["by"]["strategy"]) == {"none", "snip1", "(no run)"}


def test_du_says_which_groups_take_the_space(two_runs: Terminal) -> None:
    out = two_runs.run("du").out

    for text in ("KIND", "states", "MODEL", "digits_lenet_16", "STRATEGY", "snip1", "AGE", "under a day"):
        assert text in out
    assert "ADDRESS" not in out
    assert two_runs.run("du", "--by=run").out.count("/1 ") == 2
    two_runs.run("du", "--by=colour").assert_is_for_people(2, "--by", "kind")


def test_du_counts_a_hard_link_once_and_calls_its_bytes_shared(own_two_runs: Terminal) -> None:
    before = usage(own_two_runs)["total"]
    state = own_two_runs.where(*TRAIN) / LAST
    os.link(state, own_two_runs.root / "copy")

    after = usage(own_two_runs)["total"]

    assert after["files"] == before["files"] + 1
    assert after["bytes"] == before["bytes"]
    assert after["shared"] == before["shared"] + state.stat().st_size


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (".metrics.csv.0-1-2.part", "leftovers"),
        ("checkpoint.safetensors", "leftovers"),
        ("state_ep1_it0.safetensors", "leftovers"),
        ("damaged_metrics.csv", "set_aside"),
    ],
)
def test_du_lists_leftovers_and_files_that_were_set_aside(own_two_runs: Terminal, name: str, kind: str) -> None:
    path = own_two_runs.where(*BRANCH) / name
    path.write_bytes(b"123")

    assert usage(own_two_runs)[kind] == [{"path": str(path.relative_to(own_two_runs.root)), "bytes": 3}]
    assert str(path.relative_to(own_two_runs.root)) in own_two_runs.run("du").out


def test_du_of_a_root_that_is_not_there_is_empty(terminal: Terminal) -> None:
    assert usage(terminal)["total"] == {"files": 0, "bytes": 0, "shared": 0, "unique": 0, "folders": 0}


def collected(terminal: Terminal, *arguments: str, code: int = 0) -> str:
    result = terminal.run("gc", *arguments)
    assert result.code == code, result.out + result.err
    return result.out


def states(terminal: Terminal) -> dict[str, bytes]:
    paths = sorted(terminal.root.rglob("state_*.safetensors"))
    return {str(path.relative_to(terminal.root)): path.read_bytes() for path in paths}


def test_gc_without_a_budget_removes_leftovers_alone(own_two_runs: Terminal) -> None:
    before = own_two_runs.files()
    left = own_two_runs.where(*BRANCH) / ".metrics.csv.0-1-2.part"
    left.write_bytes(b"123")
    unlisted = own_two_runs.where(*TRAIN) / "state_ep1_it0.safetensors"
    unlisted.write_bytes(b"123")

    assert str(left.relative_to(own_two_runs.root)) in collected(own_two_runs, "--dry_run")
    assert left.exists()
    assert "Leftovers of killed processes: 2 files" in collected(own_two_runs)

    assert own_two_runs.files() == before


def test_files_that_were_set_aside_go_only_if_they_are_old_and_it_is_asked_for(own_two_runs: Terminal) -> None:
    aside = own_two_runs.where(*BRANCH) / "damaged_metrics.csv"
    aside.write_bytes(b"123")

    collected(own_two_runs, "--grace=0")
    collected(own_two_runs, "--set_aside")
    assert aside.exists()

    assert "set aside: 1 files" in collected(own_two_runs, "--set_aside", "--grace=0")
    assert not aside.exists()


def test_states_that_were_used_lately_stay(own_two_runs: Terminal) -> None:
    before = states(own_two_runs)

    out = collected(own_two_runs, "--budget=0", code=1)

    assert "used within the grace period" in out
    assert "missed by" in out
    assert states(own_two_runs) == before


def test_a_dry_run_says_what_would_go_and_what_a_replay_takes(own_two_runs: Terminal) -> None:
    before = own_two_runs.files()

    out = collected(own_two_runs, "--budget=20kB", "--grace=0", "--dry_run")

    for text in ("UNUSED", "REPLAY", "To replay all of them takes", "cpu (1 threads)", "The budget of 20.0 kB is met."):
        assert text in out
    assert own_two_runs.files() == before


def test_an_evicted_state_is_replayed_to_the_same_bytes_for_a_branch(own_two_runs: Terminal) -> None:
    before = states(own_two_runs)
    collected(own_two_runs, "--budget=0", "--grace=0", code=1)
    assert states(own_two_runs) == {}
    assert own_two_runs.run("verify").code == 0

    for command in (("train", *SHORT), BRANCH):  # complete runs stay complete
        assert own_two_runs.run(*command).code == 0
        assert states(own_two_runs) == {}
    short = ("--default_hparams=digits_lenet_16", "--finetune_steps=1it", "--density=0.05")
    result = own_two_runs.run("branch", "branch_oneshot", "finetune", *short)
    assert result.code == 0, result.err

    found = states(own_two_runs)
    last = str((own_two_runs.where(*BRANCH) / LAST).relative_to(own_two_runs.root))
    assert last in found
    assert {name: content for name, content in found.items() if name in before} == {
        name: before[name] for name in found if name in before
    }
    assert own_two_runs.run("verify").code == 0


def test_a_replay_that_differs_from_the_evicted_state_is_refused(own_two_runs: Terminal) -> None:
    collected(own_two_runs, "--budget=0", "--grace=0", code=1)
    run = find_run(own_two_runs.root, "train_")
    manifest = run.read_manifest()
    assert manifest is not None
    forged = {name: replace(record, sha256="0" * 64) for name, record in manifest.evicted.items()}
    (run.folder / "manifest_2.json").write_bytes(replace(manifest, evicted=forged).to_bytes())

    result = own_two_runs.run(*TRAIN, "--weight_save_steps=3ep")

    assert result.code == 1
    assert "does not reproduce state_ep3_it0.safetensors" in result.err
    assert states(own_two_runs) == {}
    assert own_two_runs.run("verify").code == 0


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("device", "cpu (1 threads), 2 processes", "several processes computed it"),
        ("device", "cpu (1 threads), stacked with 3 other runs", "it was stacked with others"),
        ("versions", {"torch": "1.0"}, "torch 1.0 computed it"),
        ("dataset", {"digits": "0" * 64}, "digits has other data here"),
        ("dataset", {"mnist": "0" * 64}, "mnist is not prepared here"),
    ],
)
def test_states_stay_where_a_replay_would_give_other_bytes(
    own_two_runs: Terminal, field: str, value: Any, why: str
) -> None:
    run = find_run(own_two_runs.root, "train_")
    manifest = run.manifest()
    assert manifest is not None
    (run.folder / "manifest.json").write_bytes(replace(manifest, **{field: value}).to_bytes())

    out = collected(own_two_runs, "--budget=0", "--grace=0", code=1)

    assert f"since {why}" in out
    assert {name for name in states(own_two_runs) if "/main/" in name} == set(states(own_two_runs))
    assert len(states(own_two_runs)) == 2


def test_the_states_of_an_interrupted_run_and_those_that_it_needs_stay(own_two_runs: Terminal) -> None:
    branch, before = own_two_runs.where(*BRANCH), states(own_two_runs)
    (branch / "manifest.json").unlink()

    out = collected(own_two_runs, "--budget=0", "--grace=0", code=1)

    assert "since it is not complete" in out
    assert "a run that is not complete, or a process at work, needs it" in out
    needed = [str((own_two_runs.where(*TRAIN) / "state_ep0_it0.safetensors").relative_to(own_two_runs.root))]
    assert sorted(states(own_two_runs)) == sorted([*needed, *(name for name in before if "branch" in name)])


def test_a_checkpoint_of_an_interrupted_run_goes_only_if_it_is_asked_for(own_two_runs: Terminal) -> None:
    branch = own_two_runs.where(*BRANCH)
    (branch / "manifest.json").unlink()
    (branch / "checkpoint.safetensors").write_bytes(b"123")

    collected(own_two_runs, "--budget=0", "--grace=0", code=1)
    assert (branch / "checkpoint.safetensors").exists()

    collected(own_two_runs, "--checkpoints", "--grace=0")
    assert not (branch / "checkpoint.safetensors").exists()


def test_a_state_that_a_process_notes_stays(own_two_runs: Terminal) -> None:
    run = find_run(own_two_runs.root, "train_")
    with lock(own_two_runs.root / ".locks" / "other.lock", "other", print) as holder:
        holder.note({"uses": [f"{run}/{LAST}"]})
        collected(own_two_runs, "--budget=0", "--grace=0", code=1)

    assert list(states(own_two_runs)) == [f"{run}/{LAST}"]


def test_a_run_that_another_root_depends_on_counts_as_used(own_two_runs: Terminal, tmp_path: Path) -> None:
    other = Terminal(tmp_path / "other", own_two_runs.datasets)
    shutil.copytree(own_two_runs.root, other.root)
    branch = other.where(*BRANCH)
    shutil.rmtree(own_two_runs.where(*BRANCH))
    (branch / "manifest.json").unlink()

    collected(own_two_runs, "--budget=0", "--grace=0", f"--users={other.root}", code=1)

    assert [name.rpartition("/")[2] for name in states(own_two_runs)] == ["state_ep0_it0.safetensors"]
    own_two_runs.run("gc", f"--users={tmp_path}/none").assert_is_for_people(2, "--users", "/none")


def test_a_budget_of_files_removes_the_files_of_idle_locks_first(own_two_runs: Terminal) -> None:
    before = states(own_two_runs)
    number = sum(1 for _ in own_two_runs.root.rglob("*"))

    collected(own_two_runs, f"--files={number - 2}", "--grace=0")

    assert states(own_two_runs) == before
    assert not list(own_two_runs.root.glob(".locks/*"))
    assert own_two_runs.run(*TRAIN).code == 0


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--budget=much", "such as 200GB"), ("--budget=-1", "200GB"), ("--files=1.5x", "500k"), ("--grace=7", "14d")],
)
def test_an_amount_that_cannot_be_read_is_named(two_runs: Terminal, flag: str, words: str) -> None:
    two_runs.run("gc", flag, "--dry_run").assert_is_for_people(2, flag.partition("=")[0], words)


def test_an_evicted_last_state_is_not_replaced_by_an_earlier_one(own_two_runs: Terminal, tmp_path: Path) -> None:
    run = find_run(own_two_runs.root, "train_")
    run.amended(without=[LAST], evicted=True)
    (run.folder / LAST).unlink()

    exported = own_two_runs.run("export", "train_", str(tmp_path / "ticket"), "--dense")

    exported.assert_is_for_people(1, LAST, "--weight_save_steps=3ep0it")
    opened = open_run("train_", own_two_runs.root, own_two_runs.datasets)
    with pytest.raises(UsageError, match="no longer has its state at 18it"):
        opened.state()
    assert opened.state(replay=True)
