"""Commands at once: on one run, on a run and its dependents, and on one store. Delays are random, and seeded."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.jobs import JOBS
from tests.faults.processes import finished, judge_output
from tests.faults.stage import Stage, contents, differences

_MANY = 8
_GC = ("gc", "--budget=0", "--grace=0")


def rm_against_branch(stage: Stage, drawn: random.Random) -> str:
    """Remove a parent, or the branch itself, while the branch begins or runs."""
    what = drawn.choice([("train_",), ("train_", "--with_branches"), ("branch_oneshot",)])
    removal = ("rm", *what, "--force")
    return _two_at_once(stage, drawn, removal, (0, 1, 2))


def rm_against_training(stage: Stage, drawn: random.Random) -> str:
    """Remove a run while it begins or runs."""
    return _two_at_once(stage, drawn, ("rm", "train_", "--force"), (0, 1, 2))


def _two_at_once(stage: Stage, drawn: random.Random, other: tuple[str, ...], codes: tuple[int, ...]) -> str:
    place, delay = stage.copy(), drawn.uniform(-0.05, stage.seconds)
    order = [(stage.job.command, (0, 1)), (other, codes)]
    running = []
    for command, _ in order if delay > 0 else order[::-1]:
        running.append(stage.start(command, place))
        time.sleep(abs(delay) if len(running) == 1 else 0)
    where = f"{' '.join(other)}, {delay:.3f} s after it"
    for each, (_, allowed) in zip(running if delay > 0 else running[::-1], order, strict=True):
        result = finished(each)
        where += f"\n{result.out}{result.err}"
        judge_output(result, allowed, where)
    stage.judge(place, where)
    stage.judge_end(place, where, anew=True)
    shutil.rmtree(place)
    return where


def verify_against_job(stage: Stage, drawn: random.Random) -> str:
    """Verify while the job runs and finishes."""
    place = stage.copy()
    running = stage.start(stage.job.command, place)
    time.sleep(drawn.uniform(0, stage.seconds / 2))
    said = ""
    while running.process.is_alive():
        result = stage.run(drawn.choice([("verify",), ("verify", "--mend")]), place)
        said += f"{result.out}{result.err}"
        judge_output(result, (0,), said)
        assert "damaged:" not in said, said
        time.sleep(drawn.uniform(0, 0.02))
    judge_output(finished(running), (0,), said)
    stage.judge(place, said)
    stage.judge_end(place, said)
    shutil.rmtree(place)
    return said


def many_on_one_run(stage: Stage, drawn: random.Random) -> str:
    """Start one command eight times at once; kill or stop some."""
    place, where = stage.copy(), ""
    running = []
    for _ in range(_MANY):
        running.append(stage.start(stage.job.command, place))
        time.sleep(drawn.choice([0, drawn.uniform(0, 0.05)]))
    ended = drawn.sample(running, drawn.choice([0, 0, 1, 3]))
    for each in ended:
        time.sleep(drawn.uniform(0, stage.seconds / 2))
        each.signal(drawn.choice([signal.SIGKILL, signal.SIGTERM]))
    results = [finished(each) for each in running]
    where = "\n".join(f"{result.code}: {result.out}{result.err}" for result in results)
    for each, result in zip(running, results, strict=True):
        judge_output(result, (0, 143, -9, -15) if each in ended else (0,), where)
    stage.judge(place, where)
    stage.judge_end(place, where)
    shutil.rmtree(place)
    return where


def many_on_one_store(stage: Stage, drawn: random.Random) -> str:
    """Compute eight replicates at once, before their dataset is prepared."""
    place, alone = stage.copy(), stage.begin.with_name("alone")
    commands = [(*stage.job.command, f"--replicate={number}") for number in range(1, _MANY + 1)]
    if not alone.exists():
        stage.copy(to=alone)
        for command in commands:
            assert stage.run(command, alone).code == 0
    running = []
    for command in drawn.sample(commands, _MANY):
        running.append(stage.start(command, place))
        time.sleep(drawn.choice([0, drawn.uniform(0, 0.05)]))
    results = [finished(each) for each in running]
    where = "\n".join(f"{result.code}: {result.out}{result.err}" for result in results)
    for result in results:
        judge_output(result, (0,), where)
    differing = differences(contents(place), contents(alone))
    assert not differing, f"{where}\ndiffering: {differing}"
    shutil.rmtree(place)
    return where


def collection_against_job(stage: Stage, drawn: random.Random) -> str:
    """Make room, and pack, while a job or pull begins, runs or resumes: it gets the same bytes, and the rest stays."""
    place, said = stage.copy(), ""
    if drawn.random() < 1 / 3:
        interrupted = stage.start(stage.job.command, place)
        time.sleep(drawn.uniform(0, stage.seconds))
        interrupted.signal(drawn.choice([signal.SIGKILL, signal.SIGTERM]))
        finished(interrupted)
    running = stage.start(stage.job.command, place)
    time.sleep(drawn.uniform(0, stage.seconds))
    for _ in range(_MANY):
        result = stage.run(drawn.choice([_GC, _GC, ("pack",), ("unpack",)]), place)
        said += f"{result.out}{result.err}"
        judge_output(result, (0, 1), said)
        if not running.process.is_alive():
            break
    result = finished(running)
    said += f"{result.out}{result.err}"
    judge_output(result, (0,), said)
    stage.judge(place, said)
    judge_output(stage.run(stage.job.command, place), (0,), said)
    found = contents(place)
    for name, expected in stage.expected.items():
        is_evictable = "/state_" in name or "/manifest_" in name
        right = (expected, None) if is_evictable else (expected,)
        assert found.get(name) in right, f"{said}\n{name}"
    shutil.rmtree(place)
    return said


RACES: list[tuple[str, Callable[[Stage, random.Random], str], int, int]] = [
    ("oneshot", rm_against_branch, 2, 150),
    ("train", rm_against_training, 1, 100),
    ("oneshot", verify_against_job, 1, 60),
    ("oneshot", collection_against_job, 2, 250),
    ("replay", collection_against_job, 1, 150),
    ("lottery", collection_against_job, 1, 100),
    ("pull", collection_against_job, 1, 100),
    ("lottery", verify_against_job, 0, 20),
    ("train", many_on_one_run, 1, 30),
    ("lottery", many_on_one_run, 0, 10),
    ("prepare", many_on_one_store, 1, 20),
]
"""The job, the commands that race it, and the numbers of seeds in the short and in the long form."""


def rounds(name: str, race: Callable[[Stage, random.Random], str], times: int, folder: Path, digits: Path) -> None:
    """Run a race with some seeds, print how many, and assert that nothing was violated."""
    stage = Stage(JOBS[name], folder, digits)
    failures = []
    for number in range(times):
        try:
            race(stage, random.Random(f"{name} {number}"))
        except AssertionError as failure:
            failures.append(f"seed {number}: {failure}")
    print(f"{times} seeds of {race.__name__} with {name}, {len(failures)} violations")  # noqa: T201
    assert not failures, "\n\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "race", "times"), [(name, race, many) for name, race, _, many in RACES])
def test_commands_at_once_leave_nothing_wrong(
    name: str, race: Callable[[Stage, random.Random], str], times: int, tmp_path: Path, digits: Path
) -> None:
    rounds(name, race, times, tmp_path, digits)


@pytest.mark.parametrize(("name", "race", "times"), [(name, race, few) for name, race, few, _ in RACES if few])
def test_a_few_commands_at_once_leave_nothing_wrong(
    name: str, race: Callable[[Stage, random.Random], str], times: int, tmp_path: Path, digits: Path
) -> None:
    rounds(name, race, times, tmp_path, digits)
