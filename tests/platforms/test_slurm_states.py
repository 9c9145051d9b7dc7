"""Parsing the answers of Slurm's commands, with fake commands in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundations.errors import EnvironmentFailure
from platforms.executors.scheduler import JobState
from platforms.executors.slurm import Slurm, SlurmHparams

SLURM = Slurm(SlurmHparams(executor="slurm"))


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


def state_of(commands: Path, line: str) -> JobState:
    put(commands, "squeue", f"7|{line}")
    return SLURM.states(["7"])["7"]


def test_one_question_answers_for_all_jobs(commands: Path) -> None:
    put(commands, "squeue", "7_0|RUNNING|None\n7_1|PENDING|JobHeldUser\n8|OUT_OF_MEMORY|OutOfMemory\n9|RUNNING|None")

    states = SLURM.states(["7_0", "7_1", "8"])

    assert states["7_0"] == JobState("running")
    assert states["7_1"] == JobState("waiting", "JobHeldUser")
    assert states["8"] == JobState("ended", "it ran out of memory; it needs more than slurm_memory gives it", -9)
    assert len((commands / "squeue.calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "name, exit_code",
    [
        *(("COMPLETED", None), ("FAILED", None), ("CANCELLED", 1)),
        *((name, -9) for name in ("TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE")),
    ],
)
def test_jobs_in_these_states_have_ended_and_start_again_unless_they_were_cancelled(
    commands: Path, name: str, exit_code: int | None
) -> None:
    state = state_of(commands, f"{name}|None")

    assert (state.phase, state.exit_code) == ("ended", exit_code)
    assert state.reason


@pytest.mark.parametrize("name", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING", "SUSPENDED"])
def test_jobs_in_these_states_may_still_run(commands: Path, name: str) -> None:
    assert state_of(commands, f"{name}|None").phase in ("waiting", "running")


def test_a_job_that_slurm_holds_after_a_failed_launch_never_starts(commands: Path) -> None:
    assert state_of(commands, "PENDING|launch failed requeued held").phase == "stuck"


def test_a_controller_that_does_not_answer_is_told_from_one_that_has_no_jobs(commands: Path) -> None:
    put(commands, "squeue", "slurm_load_jobs error: Unable to contact slurm controller", code=1)

    with pytest.raises(EnvironmentFailure, match="Unable to contact"):
        SLURM.states(["7"])


def test_accounting_knows_jobs_that_the_queue_has_forgotten_where_there_is_accounting(commands: Path) -> None:
    put(commands, "squeue", "9|RUNNING|None")
    put(commands, "sacct", "7_0|COMPLETED\n7_1|CANCELLED by 1000")
    states = SLURM.states(["7_0", "7_1"])
    assert (states["7_0"].phase, states["7_1"].exit_code) == ("ended", 1)

    put(commands, "sacct", "Slurm accounting storage is disabled", code=1)
    assert "7_0" not in SLURM.states(["7_0"])


def test_arrays_stay_within_the_limit_of_the_cluster(commands: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed: pip install -r requirements-cluster.txt")
    put(commands, "scontrol", "MaxArraySize            = 101\nMaxJobCount             = 10000")
    slurm = Slurm(SlurmHparams(executor="slurm"))

    slurm.open(tmp_path / "records")

    assert slurm.largest_array == 100
