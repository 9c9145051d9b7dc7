"""The executor for clusters, with a scheduler that runs nothing: queueing, groups, records, stops and patience."""

from __future__ import annotations

import json
import math
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from foundations.errors import EnvironmentFailure, PluginError, UsageError
from platforms.executors.cluster import ClusterExecutor
from platforms.executors.executor import CommandJob, Ended, Program
from platforms.executors.registry import ExecutorHparams, ExecutorKind, make_scheduler
from platforms.executors.scheduler import JobState, Scheduler
from platforms.executors.slurm_task import SlurmTask
from platforms.executors.task import Task, record_of

PYTHON = Program(entry="", command=(sys.executable, "-c"))
PRINTS = "print('hello')"
WAITS = "import time; print('begun', flush=True); time.sleep(60)"


@dataclass
class Fake(Scheduler):
    """Notes what it is asked; jobs are in the states that a test gives them."""

    takes_waiting_jobs: bool = True
    largest_array: int = 3
    poll_seconds: float = 0.0
    patience_seconds: float = 0.2
    outlives: bool = True
    groups: list[tuple[list[Task], list[str]]] = field(default_factory=list)
    known: dict[str, JobState] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    refusal: str = ""
    is_silent: bool = False

    def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> list[str]:
        if self.refusal:
            raise EnvironmentFailure(self.refusal)
        self.groups.append((list(tasks), list(after)))
        ids = [f"id{len(self.known) + number}" for number in range(len(tasks))]
        self.known |= dict.fromkeys(ids, JobState("waiting", "Priority"))
        return ids

    def states(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        if self.is_silent:
            raise EnvironmentFailure("no answer")
        return {job: self.known[job] for job in jobs if job in self.known}

    def cancel(self, jobs: Sequence[str]) -> None:
        self.cancelled += jobs
        self.known |= dict.fromkeys(jobs, JobState("ended", "it was cancelled", 1))

    def how_to_look(self) -> str:
        return "look here" if self.outlives else ""

    def tasks(self) -> list[Task]:
        return [task for tasks, _ in self.groups for task in tasks]


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def executor(fake: Fake, tmp_path: Path) -> Iterator[ClusterExecutor]:
    yield executor_of(fake, tmp_path)


def executor_of(scheduler: Scheduler, folder: Path) -> ClusterExecutor:
    kind = ExecutorKind(spelling="fake", hparams=ExecutorHparams, scheduler=lambda _: scheduler, runs="nowhere")
    return ClusterExecutor(kind, scheduler, Program(entry="", command=PYTHON.command, folder=folder / "jobs"))


def job(name: str, *after: str) -> CommandJob:
    return CommandJob(name, (PRINTS,), Path("out.txt"), after)


def submit(executor: ClusterExecutor, *jobs: CommandJob) -> None:
    for each in jobs:
        executor.submit(each)
    assert executor.ended(0.0) == []


def record(task: Task, code: int) -> None:
    record_of(Path(task.records), task.key).write_text(str(code))


def codes(ended: Sequence[Ended]) -> dict[str, int]:
    return {each.name: each.exit_code for each in ended}


def test_jobs_with_the_same_dependencies_are_submitted_in_groups_of_the_largest_array(
    executor: ClusterExecutor, fake: Fake
) -> None:
    submit(executor, *(job(f"p{n}") for n in range(4)), job("a", "p0"), job("b", "p0"), job("c", "p0", "p1"))

    assert [(len(tasks), after) for tasks, after in fake.groups] == [
        (3, []), (1, []), (2, ["id0"]), (1, ["id0", "id1"]),
    ]  # fmt: skip
    assert [task.key for task in fake.tasks()] == [f"{n:06d}" for n in range(7)]
    assert executor.queued() == {"p0", "p1", "p2", "p3", "a", "b", "c"}


def test_the_queue_takes_as_many_jobs_as_the_scheduler_allows(executor: ClusterExecutor, fake: Fake) -> None:
    fake.max_jobs = 2
    submit(executor, job("a"))
    assert executor.has_room()
    executor.submit(job("b"))
    assert not executor.has_room()


def test_a_job_ends_with_the_exit_code_of_its_record(executor: ClusterExecutor, fake: Fake) -> None:
    submit(executor, job("a"), job("b"))
    fake.known["id0"] = JobState("running")
    record(fake.tasks()[0], 0)
    record(fake.tasks()[1], 2)

    assert codes(executor.ended(1.0)) == {"a": 0, "b": 2}


def test_a_job_that_is_killed_ends_with_the_scheduler_s_reason(executor: ClusterExecutor, fake: Fake) -> None:
    submit(executor, job("a"), job("b"))
    fake.known |= {"id0": JobState("ended", "out of memory", -9), "id1": JobState("running")}
    record(fake.tasks()[1], -9)

    found = executor.ended(1.0)
    fake.known["id1"] = JobState("ended", "node failed", -9)
    found += executor.ended(1.0) if len(found) < 2 else []

    assert found == [Ended("a", -9, "out of memory"), Ended("b", -9, "node failed")]


@pytest.mark.parametrize("state", [None, JobState("ended", "finished")])
def test_a_job_without_a_record_is_given_up_only_after_some_patience(
    executor: ClusterExecutor, fake: Fake, state: JobState | None
) -> None:
    submit(executor, job("late"), job("lost"))
    fake.known = {} if state is None else dict.fromkeys(fake.known, state)

    assert executor.ended(0.0) == []
    record(fake.tasks()[0], 0)
    assert codes(executor.ended(0.0)) == {"late": 0}
    (lost,) = executor.ended(5.0)

    assert (lost.name, lost.exit_code) == ("lost", -9)
    assert lost.reason == ("finished" if state else "Fake knows nothing of it any more")


def test_a_scheduler_that_does_not_answer_changes_nothing(executor: ClusterExecutor, fake: Fake) -> None:
    submit(executor, job("a"))
    fake.is_silent, fake.known = True, {}

    assert executor.ended(0.5) == []
    assert executor.queued() == {"a"}


def test_a_job_that_will_never_start_is_cancelled_and_fails(executor: ClusterExecutor, fake: Fake) -> None:
    submit(executor, job("a"))
    fake.known["id0"] = JobState("stuck", "launch failed")

    assert codes(executor.ended(5.0)) == {"a": 1}
    assert fake.cancelled == ["id0"]


def test_jobs_after_a_failed_one_are_left_to_the_dispatch_also_where_its_record_comes_late(
    executor: ClusterExecutor, fake: Fake
) -> None:
    submit(executor, job("a"), job("b", "a"), job("c", "b"))
    fake.known |= dict.fromkeys(("id1", "id2"), JobState("ended", "it was cancelled", 1))
    assert executor.ended(0.0) == []

    record(fake.tasks()[0], 2)
    found = executor.ended(0.0)
    executor.submit(job("d", "a"))
    found += executor.ended(1.0)

    assert codes(found) == {"a": 2, "b": 75, "c": 75, "d": 75}
    assert len(fake.groups) == 3


def test_a_stop_cancels_what_waits_drops_the_rest_and_leaves_a_file_for_what_runs(
    executor: ClusterExecutor, fake: Fake
) -> None:
    submit(executor, job("runs"), job("waits"), job("has not come yet"))
    fake.known["id0"] = JobState("running")
    del fake.known["id2"]
    executor.submit(job("not submitted"))

    executor.stop()
    found = executor.ended(1.0)

    assert fake.cancelled == ["id1"]
    assert codes(found) == {"waits": 143, "has not come yet": 143, "not submitted": 143}
    assert fake.tasks()[0].is_stopped()
    assert fake.tasks()[0].run() == 143


def test_a_refusal_ends_the_command_unless_other_jobs_are_there_and_is_tried_again(
    executor: ClusterExecutor, fake: Fake
) -> None:
    fake.refusal = "the queue is full"
    executor.submit(job("first"))
    with pytest.raises(EnvironmentFailure, match="the queue is full"):
        executor.ended(0.0)

    fake.refusal = ""
    submit(executor, job("a"))
    fake.refusal = "the queue is full"
    submit(executor, job("b"))
    assert executor.queued() == {"a", "b"}
    fake.refusal = ""
    assert executor.ended(0.5) == []

    assert len(fake.groups) == 2


def test_records_of_waiting_jobs_stay_when_the_process_leaves_and_go_when_all_went_well(
    executor: ClusterExecutor, fake: Fake, tmp_path: Path
) -> None:
    submit(executor, job("a"))
    executor.submit(job("b"))
    executor.close()
    (notes,) = (tmp_path / "jobs" / "fake").glob("*/submitted.jsonl")
    lines = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [(line["number"], line["key"], line["runs"]) for line in lines] == [
        ("id0", "000000", ["a"]), ("id1", "000001", ["b"]),
    ]  # fmt: skip

    for task in fake.tasks():
        record(task, 0)
    assert codes(executor.ended(1.0)) == {"a": 0, "b": 0}
    executor.close()
    assert not notes.parent.exists()


def test_jobs_that_end_with_the_process_are_not_shown_to_others(tmp_path: Path) -> None:
    fake = Fake(outlives=False)
    executor = executor_of(fake, tmp_path)
    submit(executor, job("a"))

    assert not list(tmp_path.rglob("submitted.jsonl"))
    executor.close()
    assert not list((tmp_path / "jobs" / "fake").iterdir())


# The body of a job.


def task_of(folder: Path, code: str, seconds: float = 0.0) -> Task:
    return Task([sys.executable, "-c", code], str(folder / "out" / "output.txt"), str(folder), "000000", seconds)


@pytest.mark.parametrize("code, recorded", [("pass", "0"), ("exit(3)", "3"), ("import os; os.abort()", "-6")])
def test_a_job_records_the_exit_code_of_its_command(tmp_path: Path, code: str, recorded: str) -> None:
    done = subprocess.run(task_of(tmp_path, f"print('hello'); {code}").command_line, capture_output=True)

    assert (tmp_path / "000000.exit").read_text() == recorded
    assert done.returncode == (134 if recorded == "-6" else int(recorded))
    assert done.stdout == done.stderr == b""
    assert (tmp_path / "out" / "output.txt").exists()


@pytest.mark.parametrize("how", ["time", "stop"])
def test_a_command_is_asked_to_end_when_its_time_is_over_or_all_jobs_are_stopped(tmp_path: Path, how: str) -> None:
    task = task_of(tmp_path, WAITS, seconds=0.5 if how == "time" else 0.0)
    running = subprocess.Popen(task.command_line)
    while not task.started.exists():
        assert running.poll() is None
    if how == "stop":
        (tmp_path / "stop").touch()

    assert running.wait(30) == 143
    assert (tmp_path / "000000.exit").read_text() == "-15"


def test_a_command_that_its_scheduler_ends_leaves_no_record_as_it_may_start_again(tmp_path: Path) -> None:
    task = task_of(tmp_path, WAITS)
    running = subprocess.Popen(task.command_line, start_new_session=True)
    output = tmp_path / "out" / "output.txt"
    while not (output.exists() and "begun" in output.read_text()):
        assert running.poll() is None

    subprocess.run(["pkill", "-TERM", "-s", str(running.pid)], check=True)

    assert running.wait(30) == 143
    assert not (tmp_path / "000000.exit").exists()


def test_a_slurm_job_that_the_former_version_submitted_runs_with_the_attributes_that_it_pickled(tmp_path: Path) -> None:
    new = task_of(tmp_path, "exit(3)")
    names = ("command", "output", "records", "key")
    old = SlurmTask.__new__(SlurmTask)
    vars(old).update({name: getattr(new, name) for name in names})
    former = signal.getsignal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        pickle.loads(pickle.dumps(old))()
    signal.signal(signal.SIGTERM, former)

    assert (tmp_path / "000000.exit").read_text() == "3"


# Mistakes of a scheduler of a user's own.


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("largest_array", 0, "is 0; it must be an int of at least 1."),
        ("max_jobs", 0, "is 0; it must be an int of at least 1."),
        ("threads", "2", "is '2'; it must be an int of at least 1."),
        ("poll_seconds", "15", "is '15'; it must be a number of at least 0."),
        ("patience_seconds", -1, "is -1; it must be a number of at least 0."),
        ("seconds", None, "is None; it must be a number of at least 0."),
        ("seconds", math.nan, "is nan; it must be a number of at least 0."),
        ("takes_waiting_jobs", "no", "is 'no'; it must be True or False."),
        ("commands", "qsub", "is 'qsub'; it must be a tuple of names."),
        ("commands", 5, "is 5; it must be a tuple of names."),
    ],
)
def test_attributes_that_no_executor_can_use_are_refused(tmp_path: Path, name: str, value: object, words: str) -> None:
    fake = Fake()
    setattr(fake, name, value)

    with pytest.raises(UsageError) as error:
        executor_of(fake, tmp_path)
    assert str(error.value) == f"{name} of the scheduler Fake {words}"


def test_a_method_that_does_not_take_its_arguments_is_refused_by_its_line() -> None:
    class Wrong(Fake):
        def submit(self, tasks: Sequence[Task]) -> list[str]:  # type: ignore[override]
            return []

    kind = ExecutorKind(spelling="fake", hparams=ExecutorHparams, scheduler=lambda _: Wrong(), runs="nowhere")
    with pytest.raises(PluginError) as error:
        make_scheduler(kind, ExecutorHparams())
    assert "test_cluster.py, line " in str(error.value)
    assert "submit, of 'fake', is called with 2 arguments after self, and does not take them." in str(error.value)


def test_the_output_of_a_command_may_have_bytes_that_are_no_text() -> None:
    assert Scheduler.output_of("printf", r"job \377\n").startswith("job ")


@pytest.mark.parametrize(
    "ids, words",
    [
        (None, "returned nothing (None); it must return 2 ids (str), one for each task."),
        ([], "returned []; it must return 2 ids (str), one for each task."),
        (["1"], "returned ['1']; it must"),
        ([1, 2], "returned [1, 2]; it must"),
        (["1", " "], "returned ['1', ' ']; it must"),
        ("12", "returned '12'; it must"),
        ({"1": 2}, "returned a dict; it must"),
    ],
)
def test_a_submit_that_returns_no_ids_is_refused_by_its_line(tmp_path: Path, ids: Any, words: str) -> None:
    class Wrong(Fake):
        def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> Any:
            return ids

    executor = executor_of(Wrong(), tmp_path)
    executor.submit(job("a"))
    executor.submit(job("b"))

    with pytest.raises(PluginError) as error:
        executor.ended(0.0)
    assert "test_cluster.py, line " in str(error.value) and f"submit, of 'fake', {words}" in str(error.value)


@pytest.mark.parametrize(
    "states, words",
    [
        (None, "states, of 'fake', returned nothing (None); it must return a JobState for each id."),
        ({"id0": "R"}, "states, of 'fake', returned 'R' for id0; it must return a JobState."),
        ({"id0": JobState("R")}, "returned the phase 'R' for id0; choose from waiting, stuck, running, ended."),
        ({"id0": JobState("ended", "", "1")}, "returned the exit code '1' for id0; it must be an int or None."),  # type: ignore[arg-type]
        ({"id0": JobState("waiting", None)}, "returned the reason None for id0; it must be a str."),  # type: ignore[arg-type]
    ],
)
def test_states_that_are_none_are_refused_by_their_line(tmp_path: Path, states: Any, words: str) -> None:
    class Wrong(Fake):
        def states(self, jobs: Sequence[str]) -> Any:
            return states

    executor = executor_of(Wrong(), tmp_path)
    executor.submit(job("a"))

    with pytest.raises(PluginError) as error:
        executor.ended(0.0)
    assert words in str(error.value)


def test_a_declaration_without_all_methods_is_refused() -> None:
    class Half(Scheduler):
        def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> list[str]:
            return []

    half: Any = Half
    with pytest.raises(UsageError, match="Half has no cancel, states; each executor needs its own"):
        ExecutorKind(spelling="half", hparams=ExecutorHparams, scheduler=half, runs="").check_declared()
    with pytest.raises(UsageError, match="either a scheduler or"):
        ExecutorKind(spelling="none", hparams=ExecutorHparams, runs="").check_declared()
