"""Runs that wait in a scheduler's queue, and their lines in `watch`, with a fake `squeue` in place of Slurm's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.commands.watch import drawn
from platforms.executors.queue import QueuedRun, queued_runs
from platforms.executors.task import record_of

AT = 1790000000.5
MAINS = [f"train_{digit * 32}/replicate_{number}/main" for digit in "ab" for number in (1, 2)]
BRANCH = f"train_{'a' * 32}/replicate_1/branch_oneshot_{'c' * 32}"
SUBMITTED = "".join(
    [
        *(f'{{"number": "7_{n}", "key": "{n:06d}", "runs": ["{run}"], "at": {AT}}}\n' for n, run in enumerate(MAINS)),
        f'{{"number": "8", "key": "000004", "runs": ["{BRANCH}", "{BRANCH[:-1]}d"], "at": {AT}}}\n',
    ]
)
"""The records of five jobs, as every version writes them."""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the executors, where five jobs were submitted."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "bin").mkdir()
    records = tmp_path / "root" / ".jobs" / "slurm" / "1"
    records.mkdir(parents=True)
    (records / "submitted.jsonl").write_text(SUBMITTED)
    return tmp_path / "root" / ".jobs"


def answer(jobs: Path, *lines: str, code: int = 0) -> None:
    """Let squeue say something."""
    squeue = jobs.parent.parent / "bin" / "squeue"
    squeue.write_text(
        f"#!/bin/sh\necho asked >> {squeue}.calls\ncat <<'END'\n{chr(10).join(lines)}\nEND\nexit {code}\n"
    )
    squeue.chmod(0o755)


def test_jobs_that_wait_are_told_from_those_that_run_have_ended_or_are_another_user_s(jobs: Path) -> None:
    answer(jobs, "7_0|RUNNING|None", "7_1|PENDING|Resources", "7_2|COMPLETED|None", "7_3|PENDING|JobHeldUser",
           "8|PENDING|Dependency", "99|PENDING|Priority")  # fmt: skip

    assert queued_runs(jobs) == (
        [
            QueuedRun(MAINS[1], "slurm:7_1", "Resources", AT),
            QueuedRun(MAINS[3], "slurm:7_3", "JobHeldUser", AT),
            QueuedRun(BRANCH, "slurm:8", "Dependency", AT),
            QueuedRun(f"{BRANCH[:-1]}d", "slurm:8", "Dependency", AT),
        ],
        [],
    )


def test_a_job_that_has_recorded_its_end_does_not_wait(jobs: Path) -> None:
    answer(jobs, *(f"7_{n}|PENDING|Priority" for n in range(4)))
    record_of(jobs / "slurm" / "1", "000001").write_text("0")

    assert [each.job for each in queued_runs(jobs)[0]] == ["slurm:7_0", "slurm:7_2", "slurm:7_3"]


def test_slurm_is_not_asked_where_nothing_was_submitted(jobs: Path, tmp_path: Path) -> None:
    answer(jobs, code=1)

    assert queued_runs(tmp_path / "other") == ([], [])
    assert not (tmp_path / "bin" / "squeue.calls").exists()


def test_notes_that_cannot_be_read_are_passed_over(jobs: Path) -> None:
    answer(jobs, "7_0|PENDING|Priority")
    with (jobs / "slurm" / "1" / "submitted.jsonl").open("a") as notes:
        notes.write('{"number": "9", "ke\n[]\n{}\nnull\n{"number": 1, "key": 2, "runs": 3, "at": "x"}\n')

    assert [each.job for each in queued_runs(jobs)[0]] == ["slurm:7_0"]


def test_watch_shows_runs_that_wait_as_waiting_on_a_line_of_80_columns(jobs: Path) -> None:
    answer(jobs, "7_0|PENDING|AssocGrpCPUMinutesLimit", "8|PENDING|Dependency")

    shown = drawn(jobs.parent, *queued_runs(jobs))

    assert shown.count(" waiting ") == 3
    assert "running" not in shown
    assert all(text in shown for text in ("aaaaaaaa/1", "cccccccc/1", "(Dependency)", "slurm:7_0", "oneshot"))
    assert max(map(len, shown.splitlines())) <= 80


def test_watch_says_where_slurm_does_not_answer(jobs: Path) -> None:
    answer(jobs, code=1)

    assert "Slurm does not answer" in drawn(jobs.parent, *queued_runs(jobs))


def test_watch_names_a_queue_whose_executor_is_not_here(jobs: Path) -> None:
    answer(jobs, "7_0|PENDING|Priority")
    (jobs / "slurm").rename(jobs / "elsewhere")

    shown = drawn(jobs.parent, *queued_runs(jobs))

    assert "There is no executor 'elsewhere' here, so runs that wait in its queue are not shown." in shown
