"""Random faults, seeded, in every kind of job: kills, damaged files, full disks, short writes, clocks that jump.

`pytest -s -m slow tests/faults` says how many there were.
"""

from __future__ import annotations

import collections
import contextlib
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.damage import content, damage, files_of_runs
from tests.faults.injection import Fault, Kind, Witness, arm
from tests.faults.jobs import JOBS
from tests.faults.processes import finished, judge_output, wait_for_orphans
from tests.faults.stage import Stage, at_place, named_in

_STOPPED = (0, 1, 130, 143, -9, -15)
_PAGE = 4096


def kill(stage: Stage, drawn: random.Random) -> str:
    """Kill the job, or ask it to end, at random moments, and start it again."""
    place, where = stage.copy(), ""
    for _ in range(drawn.randint(1, 3)):
        running = stage.start(stage.job.command, place)
        delay, number = drawn.uniform(0, stage.seconds), drawn.choice([signal.SIGKILL, signal.SIGTERM])
        time.sleep(delay)
        running.signal(number)
        result = finished(running)
        where += f"{number.name} after {delay:.3f} s\n{result.out}{result.err}"
        judge_output(result, (*_STOPPED, *stage.job.repeated), where)
        stage.judge(place, where)
    stage.judge_end(place, where)
    shutil.rmtree(place)
    return where


def kill_a_real_pool(stage: Stage, drawn: random.Random) -> str:
    """Kill the process of a sweep whose workers come from a fork server."""
    place = stage.copy()
    running = stage.start(stage.job.command, place, forks=False)
    delay, number = drawn.uniform(0, 6), drawn.choice([signal.SIGKILL, signal.SIGTERM])
    time.sleep(delay)
    running.signal(number)
    result = finished(running)
    wait_for_orphans(place / "root")
    where = f"{number.name} after {delay:.3f} s\n{result.out}{result.err}"
    judge_output(result, _STOPPED, where)
    stage.judge(place, where)
    stage.judge_end(place, where)
    shutil.rmtree(place)
    return where


def inject(stage: Stage, drawn: random.Random) -> str:
    """Put a fault into a file operation: a short write, a jump of the clock, an error, a kill."""
    kind = drawn.choice([Kind.SHORT, Kind.CLOCK, Kind.CLOCK, Kind.EIO, Kind.FULL, Kind.KILL])
    at, struck = drawn.randint(1, max(1, stage.operations)), ""
    while at and not struck:  # there are fewer writes than operations
        struck, at = stage.inject(Fault(kind, at)), at // 2
    return struck


def limit(stage: Stage, drawn: random.Random) -> str:
    """Let no file get longer than some bytes."""
    place = stage.copy()
    longest = max((path.stat().st_size for path in stage.calm.rglob("*") if path.is_file()), default=0)
    most = drawn.randint(_PAGE, max(_PAGE, longest))
    result = stage.run(stage.job.command, place, partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most)))
    where = f"no file longer than {most} bytes\n{result.out}{result.err}"
    judge_output(result, (0, 1), where)
    stage.judge(place, where)
    stage.judge_end(place, where)
    shutil.rmtree(place)
    return where


def fill(stage: Stage, drawn: random.Random) -> str:
    """Give the job a disk with hardly any room."""
    used, needed = (_room(folder) for folder in (stage.begin, stage.calm))
    size = used + drawn.randint(0, max(1, needed - used) + 16) * _PAGE
    place = stage.begin.with_name("disk_")
    with _disk(place, size) as grow:
        stage.copy(to=place)
        result = stage.run(stage.job.command, place)
        where = f"a disk of {size} bytes, of which {used} are used\n{result.out}{result.err}"
        judge_output(result, (0, 1), where)
        stage.judge(place, where)
        grow()
        stage.judge_end(place, where)
    return where


def harm(stage: Stage, drawn: random.Random) -> str:
    """Damage a file of a run, whole or cut off."""
    place, where = _left(stage, drawn)
    if not files_of_runs(place / "root"):
        return ""
    state = {path: content(path) for path in (place / "root").rglob("*")}
    vouched = _vouched(place)
    done = damage(place / "root", drawn, stage.donors)
    changed = {path for path in done.paths if content(path) != state[path]}
    placed = set(map(at_place, changed))
    where += done.how
    said = stage.run(("verify",), place)
    where += f"\n{said.out}{said.err}"
    judge_output(said, (0, 1), where, is_list=True)
    named = named_in(said.out)
    assert named <= placed, f"{where}\n{named} are not damaged"
    gone = {path for path in changed if path.name == "manifest.json" and state[path] and not path.exists()}
    assert vouched & changed <= named | gone, f"{where}\nonly {named} are named"
    result = stage.run(stage.job.command, place)
    where += f"\n{result.out}{result.err}"
    judge_output(result, (0, 1, 2), where)
    stage.judge(place, where, changed)
    mended = stage.run(("verify", "--mend"), place)
    where += f"\n{mended.out}{mended.err}"
    judge_output(mended, (0,), where)
    stage.judge_end(place, where, changed)
    assert not list(place.rglob("*.executed")), where
    shutil.rmtree(place)
    return where


def _left(stage: Stage, drawn: random.Random) -> tuple[Path, str]:
    """Return a copy of the files of a job, complete or killed, and which of the two."""
    if drawn.random() < 0.4 or not files_of_runs(stage.calm / "root"):
        return stage.copy(of=stage.calm), "whole; "
    place, fault = stage.copy(), Fault(Kind.KILL, drawn.randint(1, max(1, stage.operations)))
    witness = Witness()
    stage.run(stage.job.command, place, partial(arm, fault, place, witness))
    return place, f"killed at {witness.struck()}; "


def _vouched(place: Path) -> set[Path]:
    """Return the files that a complete run has checksums of."""
    files = [path for path in files_of_runs(place / "root") if at_place(path) == path]
    found = [path for path in files if path.with_name("manifest.json").exists()]
    return {path for path in found if path.name not in ("log.txt", "output.txt", "checkpoint.safetensors")}


def _room(folder: Path) -> int:
    return sum(-(-path.lstat().st_size // _PAGE) + 1 for path in folder.rglob("*")) * _PAGE


@contextlib.contextmanager
def _disk(place: Path, size: int) -> Iterator[Callable[[], None]]:
    """Mount a file system of a size; yield a function that enlarges it."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(size, _PAGE)}", "none", place], check=True)
    try:
        yield lambda: _grow(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


def _grow(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)


def _can_mount(folder: Path) -> bool:
    with contextlib.suppress(OSError, subprocess.CalledProcessError), _disk(folder / "probe", _PAGE):
        return True
    return False


DISTURBANCES = (kill, inject, limit, fill, harm, harm)


def disturb(stage: Stage, drawn: random.Random, times: int) -> list[str]:
    """Disturb a job some times, print the count of each kind of disturbance, and return the violations."""
    failures, counts = [], collections.Counter[str]()
    is_possible = {fill: _can_mount(stage.begin.parent), harm: not stage.job.is_damaged}
    ways = [way for way in DISTURBANCES if is_possible.get(way, True)]
    for number in range(times):
        way = drawn.choice(ways)
        try:
            counts[way.__name__] += bool(way(stage, drawn))
        except AssertionError as failure:
            failures.append(f"disturbance {number}: {failure}")
    print(f"{sum(counts.values())} disturbances {dict(counts)}, {len(failures)} violations")  # noqa: T201
    return failures


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_no_disturbance_leaves_anything_wrong(name: str, tmp_path: Path, digits: Path) -> None:
    failures = disturb(Stage(JOBS[name], tmp_path, digits), random.Random(name), 50)
    assert not failures, "\n\n".join(failures)


@pytest.mark.slow
def test_a_sweep_with_a_real_pool_survives_kills(tmp_path: Path, digits: Path) -> None:
    stage, drawn = Stage(JOBS["sweep of branches"], tmp_path, digits), random.Random(0)
    for _ in range(20):
        kill_a_real_pool(stage, drawn)


def test_some_disturbances_leave_nothing_wrong(tmp_path: Path, digits: Path) -> None:
    failures = disturb(Stage(JOBS["oneshot"], tmp_path, digits), random.Random(0), 20)
    assert not failures, "\n\n".join(failures)
