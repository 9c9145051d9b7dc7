"""Dispatch, with an executor that runs no processes: the order of submissions, and the effects of jobs' ends."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from foundations.description.desc import RunRef
from foundations.description.step import Step
from foundations.plan import Plan, PlannedRun, Target, plan
from foundations.storage.locks import lock
from foundations.storage.manifest import Manifest
from foundations.storage.run import CHECKPOINT
from platforms.dispatch import Dispatch, Item, State, Wish
from platforms.executors.executor import CommandJob, Ended, Executor
from tests.branches.small_branches import describe
from tests.training.small_runs import oneshot_desc, train_desc

Outcome = Callable[[PlannedRun], int]


class Script(Executor):
    """Runs one job at a time by calling a function on each of its runs; it ends as the worst of them."""

    def __init__(self, made: Plan, outcomes: dict[str, Outcome]) -> None:
        self._runs = {str(planned.run): planned for planned in made}
        self._outcomes = outcomes
        self._waiting: list[CommandJob] = []
        self.submitted: list[str] = []
        self.stopped = False

    def has_room(self) -> bool:
        return not self._waiting

    def submit(self, job: CommandJob) -> None:
        self.submitted.append(" ".join(job.arguments))
        self._waiting.append(job)

    def ended(self, seconds: float) -> list[Ended]:
        jobs, self._waiting = self._waiting, []
        return [Ended(job.name, self._exit_code(job.arguments)) for job in jobs]

    def _exit_code(self, names: Sequence[str]) -> int:
        codes = [self._outcomes.get(name, complete)(self._runs[name]) for name in names]
        return min(codes) or max(codes)

    def stop(self) -> None:
        self.stopped = True


class Watcher:
    def __init__(self) -> None:
        self.changes: list[tuple[str, State]] = []

    def changed(self, item: Item) -> None:
        self.changes.append((item.name, item.state))

    def tick(self, dispatch: Dispatch) -> None:
        pass


def complete(planned: PlannedRun) -> int:
    """Act as a job: write the requested files."""
    run, desc = planned.run, planned.desc
    run.create(desc)
    for step in planned.keep:
        run.save_state(step, {})
    if planned.needs_mask or desc.mask_step is not None:
        run.save_mask({}, {})
        run.save_sparsity({})
    if planned.is_target:
        run.finish(
            Manifest(
                files={}, results={}, dataset={}, parents={}, versions={}, device="", wall_seconds=1.0, finished=""
            )
        )
    return 0


def job_of(runs: Sequence[PlannedRun], after: tuple[str, ...]) -> CommandJob:
    return CommandJob(str(runs[0].run), tuple(str(planned.run) for planned in runs), runs[0].run.output_path, after)


def chain(root: Path, replicates: int = 1) -> Plan:
    """Return a plan of branches of branches, which need their parents complete or up to the step they start from."""
    parent = oneshot_desc("random", density=0.3)
    child = describe("lottery_rewind", RunRef(parent), density=0.1)
    return plan([Target(desc, n + 1) for n in range(replicates) for desc in (parent, child)], root)


def names(made: Plan) -> list[str]:
    return [str(planned.run) for planned in made.to_do()]


def test_runs_are_submitted_after_those_that_they_draw_on(tmp_path: Path) -> None:
    made = chain(tmp_path, replicates=2)
    executor = Script(made, {})
    order = names(made)

    assert Dispatch(made, executor, job_of, Watcher()).run()

    assert sorted(executor.submitted) == sorted(order)
    for planned in made:
        for source in planned.sources:
            place = executor.submitted.index
            assert place(str(source.run)) < place(str(planned.run))
    assert made.to_do() == []


def test_what_draws_on_a_failed_run_is_not_started_and_says_so(tmp_path: Path) -> None:
    made = chain(tmp_path)
    _, parent, child = names(made)
    executor = Script(made, {parent: lambda _: 1})
    dispatch = Dispatch(made, executor, job_of, Watcher())

    assert not dispatch.run()

    reasons = {item.name: item.reason for item in dispatch.in_state(State.FAILED)}
    assert list(reasons) == [parent, child]
    assert reasons[child] == f"{parent}, on which it depends, failed"
    assert child not in executor.submitted


def test_a_failure_is_remembered_until_it_is_tried_again(tmp_path: Path) -> None:
    made = plan([Target(train_desc())], tmp_path)
    (name,) = names(made)
    assert not Dispatch(made, Script(made, {name: lambda _: 2}), job_of, Watcher()).run()

    again = Script(made, {})
    assert not Dispatch(made, again, job_of, Watcher()).run()
    assert again.submitted == []

    retried = Script(made, {})
    assert Dispatch(made, retried, job_of, Watcher(), retry_failed=True).run()
    assert retried.submitted == [name]
    assert made[train_desc().location(1)].run.failure() is None


@pytest.mark.parametrize("exit_code", [-signal.SIGKILL, 128 + signal.SIGTERM, 255])
def test_a_job_that_is_killed_is_started_again_but_not_for_ever(tmp_path: Path, exit_code: int) -> None:
    made = plan([Target(train_desc())], tmp_path)
    (name,) = names(made)
    executor = Script(made, {name: lambda _: exit_code})

    assert not Dispatch(made, executor, job_of, Watcher()).run()

    assert executor.submitted == [name] * 3


def test_a_job_that_gets_further_each_time_is_started_until_it_is_done(tmp_path: Path) -> None:
    made = plan([Target(train_desc())], tmp_path)
    (name,) = names(made)
    times = iter(range(10))

    def outcome(planned: PlannedRun) -> int:
        number = next(times)
        if number == 9:
            return complete(planned)
        planned.run.write(CHECKPOINT, b"")
        return -signal.SIGKILL

    executor = Script(made, {name: outcome})

    assert Dispatch(made, executor, job_of, Watcher()).run()

    assert executor.submitted == [name] * 10


def test_a_run_that_another_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    made = plan([Target(train_desc(), replicate) for replicate in (1, 2)], tmp_path)
    theirs, ours = made.to_do()
    held = lock(theirs.run.lock_path, "", lambda _line: None)
    held.__enter__()

    def outcome(planned: PlannedRun) -> int:
        complete(theirs)
        held.__exit__(None, None, None)
        return complete(planned)

    executor, watcher = Script(made, {str(ours.run): outcome}), Watcher()

    assert Dispatch(made, executor, job_of, watcher).run()

    assert executor.submitted == [str(ours.run)]
    assert (str(theirs.run), State.ELSEWHERE) in watcher.changes


def test_a_stop_asks_the_executor_and_starts_nothing_more(tmp_path: Path) -> None:
    made = plan([Target(train_desc(), replicate) for replicate in (1, 2, 3)], tmp_path)
    wishes = iter([Wish.GO_ON, Wish.STOP])
    executor = Script(made, {})
    dispatch = Dispatch(made, executor, job_of, Watcher(), wish=lambda: next(wishes))

    assert not dispatch.run()

    assert executor.stopped
    assert len(executor.submitted) == 1
    assert dispatch.wish is Wish.STOP


def test_a_state_that_was_made_is_enough_for_a_run_that_need_not_be_complete(tmp_path: Path) -> None:
    made = plan([Target(train_desc(), keep=(Step(0, 6),), is_complete=False)], tmp_path)

    assert Dispatch(made, Script(made, {}), job_of, Watcher()).run()


def alike(root: Path) -> Plan:
    """Return a plan of three trainings that can be trained together and two of another network."""
    small, other = train_desc(), train_desc(model_name="digits_lenet_9")
    return plan([*(Target(small, n) for n in (1, 2, 3)), *(Target(other, n) for n in (1, 2))], root)


def test_a_job_takes_as_many_runs_of_one_network_as_it_may(tmp_path: Path) -> None:
    made = alike(tmp_path)
    first, second, third, *others = names(made)
    executor = Script(made, {})

    assert Dispatch(made, executor, job_of, Watcher(), together=2).run()

    assert executor.submitted == [f"{first} {second}", third, " ".join(others)]
    assert made.to_do() == []


def test_no_job_takes_a_run_together_with_one_that_it_draws_on(tmp_path: Path) -> None:
    made = chain(tmp_path)
    executor = Script(made, {})

    assert Dispatch(made, executor, job_of, Watcher(), together=8).run()

    assert executor.submitted == [str(planned.run) for planned in made]


@pytest.mark.parametrize("exit_code", [2, -signal.SIGKILL])
def test_what_a_job_of_several_runs_leaves_undone_is_tried_alone_and_only_the_culprit_fails(
    tmp_path: Path, exit_code: int
) -> None:
    made = alike(tmp_path)
    first, culprit, third, *_ = names(made)
    executor = Script(made, {culprit: lambda _: exit_code})
    dispatch = Dispatch(made, executor, job_of, Watcher(), together=3)

    assert not dispatch.run()

    assert executor.submitted[0] == f"{first} {culprit} {third}"
    assert [item.name for item in dispatch.in_state(State.FAILED)] == [culprit]
    assert executor.submitted.count(culprit) == (1 if exit_code > 0 else 3)
