"""Processes on one root where locks keep nobody out: no complete run is changed or mixed."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foundations.storage.store import all_runs
from foundations.storage.upkeep import verify
from tests.cli.terminal import SHORT, Terminal
from tests.conftest import REPOSITORY
from tests.faults.injection import Fault, Kind
from tests.faults.jobs import JOBS, SMALL
from tests.faults.lying_locks import let_locks_lie, write_site
from tests.faults.processes import finished
from tests.faults.stage import Stage, contents, differences, is_leftover

_PROCESSES = 4
_TRAIN = ("train", *SMALL[:-2], "--training_steps=40it", "--checkpoint_seconds=0")
_SWEEP = ("sweep", "--grid=replicate=1-2", "--", *_TRAIN)
_LOST = ("published", "has taken over", "is in use by", "keeps nobody out")
"""Words of the sentences of a process that is not alone."""


class Watch:
    """The bytes of complete runs under a root, which must not change."""

    def __init__(self, root: Path) -> None:
        self._root, self._seen = root, dict[Path, bytes]()

    def look(self) -> None:
        for path in self._root.glob("train_*/replicate_*/[!.]*/manifest*.json"):
            data = path.read_bytes()
            assert self._seen.setdefault(path, data) == data, f"{path} was changed"
        missing = [path for path in self._seen if not path.exists()]
        assert not missing, f"{missing} are gone"


def compete(stage: Stage, drawn: random.Random, command: tuple[str, ...], *, kills: bool) -> str:
    """Start one command four times with different numbers of threads, kill some; return what they said."""
    place = stage.copy()
    watch, running = Watch(place / "root"), []
    for threads in range(1, _PROCESSES + 1):
        is_sweep = command[0] == "sweep"
        words = (*command[:2], f"--jobs={threads % 2 + 1}", *command[2:]) if is_sweep else command
        running.append(stage.start((*words, f"--threads={threads}"), place))
        time.sleep(drawn.choice([0, drawn.uniform(0, 0.1)]))
    killed = drawn.sample(running, 2) if kills else []
    for each in killed:
        time.sleep(drawn.uniform(0, stage.seconds / 2))
        each.signal(signal.SIGKILL)
    while any(each.process.is_alive() for each in running):
        watch.look()
        time.sleep(0.01)
    results = [finished(each) for each in running]
    said = "\n".join(f"{result.code}: {result.out}{result.err}" for result in results)
    for each, result in zip(running, results, strict=True):
        assert "Traceback" not in said, said
        assert result.code in ((0, -9, 75) if each in killed else (0, 75)), said
        assert result.code != 75 or any(words in said for words in _LOST), said
    again = stage.run(command, place)
    assert again.code == 0, f"{said}\nagain: {again.out}{again.err}"
    watch.look()
    for run in all_runs(place / "root"):
        assert verify(run) == [], said
        assert run.manifest() is not None, said
        log = (run.folder / "log.txt").read_text()
        assert log.count("Published by") == 1, f"{said}\n{log}"
    assert stage.run(("verify",), place).code == 0
    left = [str(path) for path in place.rglob("*") if is_leftover(path) or path.name.startswith(".main")]
    assert not left, f"{said}\nleft: {left}"
    if not kills:
        _assert_of_one_process(stage, place, command, said)
    shutil.rmtree(place)
    return said


def _assert_of_one_process(stage: Stage, place: Path, command: tuple[str, ...], said: str) -> None:
    """Assert that each run is as one of the processes computes it alone, which their rounding tells."""
    runs = list(all_runs(place / "root"))
    alone = []
    for threads in range(1, _PROCESSES + 1):
        other = stage.begin.with_name(f"alone_{command[0]}_{threads}")
        if not other.exists():
            assert stage.run((*command, f"--threads={threads}"), stage.copy(to=other)).code == 0
        alone.append({name: found for name, found in contents(other).items() if "/replicate_" in name})
    for run in runs:
        own = {name: found for name, found in contents(place).items() if f"{run.location}/" in name}
        differing = [differences(own, {n: f for n, f in each.items() if f"{run.location}/" in n}) for each in alone]
        assert set() in differing, f"{said}\n{differing}"


def trials(stage: Stage, times: int) -> None:
    drawn, counts = random.Random(0), dict.fromkeys(_LOST, 0)
    for number in range(times):
        said = compete(stage, drawn, (_TRAIN, _SWEEP)[number % 4 == 3], kills=number % 2 == 1)
        for words in _LOST:
            counts[words] += said.count(words)
    print(f"{times} trials of {_PROCESSES} processes, {counts}")  # noqa: T201
    assert any(counts.values())


@pytest.fixture
def stage(tmp_path: Path, digits: Path) -> Stage:
    return Stage(JOBS["train"], tmp_path, digits, let_locks_lie)


def test_a_few_processes_at_once_publish_one_run_whole(stage: Stage) -> None:
    trials(stage, 4)


@pytest.mark.slow
def test_two_hundred_times_processes_at_once_publish_one_run_whole(stage: Stage) -> None:
    trials(stage, 200)


def test_processes_that_fork_nothing_meet_where_locks_lie(tmp_path: Path, digits: Path) -> None:
    terminal = Terminal(tmp_path / "root", digits)
    site = write_site(tmp_path / "site")
    environment = {**os.environ, **terminal.settings(), "PYTHONPATH": str(site)}
    words = [sys.executable, "open_prune.py", "train", *SHORT, "--threads=1"]
    running = [
        subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    said = [each.communicate()[0].decode() for each in running]

    assert [each.returncode for each in running] == [0, 0], said
    (run,) = all_runs(terminal.root)
    assert run.manifest() is not None
    assert verify(run) == []


@pytest.mark.parametrize("name", ["train", "oneshot"])
def test_a_fault_at_some_file_operations_does_no_harm_where_locks_lie(name: str, tmp_path: Path, digits: Path) -> None:
    stage, drawn = Stage(JOBS[name], tmp_path, digits, let_locks_lie), random.Random(name)
    kinds = (Kind.KILL, Kind.EIO, Kind.FULL, Kind.TERM)

    struck = [stage.inject(Fault(drawn.choice(kinds), drawn.randint(1, 60))) for _ in range(8)]

    assert any(struck)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.KILL, Kind.EIO, Kind.ENOSPC, Kind.TERM])
@pytest.mark.parametrize("name", ["train", "oneshot", "replay", "sweep of branches", "mend"])
def test_a_fault_at_any_file_operation_does_no_harm_where_locks_lie(
    name: str, kind: Kind, tmp_path: Path, digits: Path
) -> None:
    stage = Stage(JOBS[name], tmp_path, digits, let_locks_lie)
    struck = itertools.takewhile(bool, (stage.inject(Fault(kind, at)) for at in itertools.count(1)))
    print(f"{len(list(struck))} injections of {kind.name} into {name} where locks lie")  # noqa: T201
