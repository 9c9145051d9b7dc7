"""Parsing the answers of Slurm's commands, with fake commands in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from platforms.executors.slurm_queue import JobState, largest_array, recorded_states, states_of


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def put(folder: Path, name: str, output: str, code: int = 0) -> None:
    """Put a command there that prints something and writes down how it was called."""
    (folder / name).write_text(
        f"#!/bin/sh\necho \"$@\" >> {folder}/{name}.calls\ncat <<'END'\n{output}\nEND\nexit {code}\n"
    )
    (folder / name).chmod(0o755)


def test_one_question_answers_for_all_jobs(commands: Path) -> None:
    put(commands, "squeue", "7_0|RUNNING|None\n7_1|PENDING|JobHeldUser\n8|OUT_OF_MEMORY|OutOfMemory\n9|RUNNING|None")

    states = states_of("me", ["7_0", "7_1", "8", "12"])

    assert states == {
        "7_0": JobState("RUNNING"),
        "7_1": JobState("PENDING", "JobHeldUser"),
        "8": JobState("OUT_OF_MEMORY", "OutOfMemory"),
    }
    assert [state.has_ended for state in states.values()] == [False, False, True]
    assert [state.in_a_word for state in states.values()] == ["running", "held", "out of memory"]
    assert len((commands / "squeue.calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "state", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"]
)
def test_jobs_in_these_states_have_ended(state: str) -> None:
    assert JobState(state).has_ended


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING", "SUSPENDED"])
def test_jobs_in_these_states_may_still_run(state: str) -> None:
    assert not JobState(state).has_ended


def test_a_controller_that_does_not_answer_says_nothing_about_jobs(commands: Path) -> None:
    put(commands, "squeue", "slurm_load_jobs error: Unable to contact slurm controller", code=1)

    assert states_of("me", ["7"]) is None


def test_accounting_knows_jobs_that_the_queue_has_forgotten_where_there_is_accounting(commands: Path) -> None:
    put(commands, "sacct", "7_0|COMPLETED\n7_1|CANCELLED by 1000")
    assert recorded_states(["7_0", "7_1"]) == {"7_0": JobState("COMPLETED"), "7_1": JobState("CANCELLED")}

    put(commands, "sacct", "Slurm accounting storage is disabled", code=1)
    assert recorded_states(["7_0"]) == {}


def test_arrays_stay_within_the_limit_of_the_cluster(commands: Path) -> None:
    put(commands, "scontrol", "MaxArraySize            = 101\nMaxJobCount             = 10000")

    assert largest_array() == 100
