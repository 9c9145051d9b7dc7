"""The pool: jobs in processes of their own, forked before they are needed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from platforms.executors.executor import CommandJob, Program
from platforms.executors.pool import Pool, PoolHparams

FORK_SERVER: Any = forkserver._forkserver


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """Stop the fork server after the tests: commands that other tests fork from this process start one of their own."""
    yield
    FORK_SERVER._stop()


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of two slots, without GPUs. Its fork server is started once for all tests."""
    program = Program(entry="tests.platforms.pool_jobs:main", state="tests.platforms.pool_jobs:state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        with Pool(PoolHparams(jobs=2), program) as made:
            yield made


def run_all(pool: Pool, jobs: list[CommandJob]) -> dict[str, int]:
    """Run jobs and return their exit codes by name."""
    codes: dict[str, int] = {}
    waiting = list(jobs)
    while len(codes) < len(jobs):
        while waiting and pool.has_room():
            pool.submit(waiting.pop(0))
        codes |= {ended.name: ended.exit_code for ended in pool.ended(5.0)}
    return codes


def job(folder: Path, word: str, name: str = "") -> CommandJob:
    return CommandJob(name or word, (word,), folder / (name or word) / "output.txt")


def children() -> set[int]:
    """Return the processes of the fork server, by their numbers."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = path.read_text().partition(" (")
            parent = int(rest.rpartition(")")[2].split()[1])
        except OSError:
            continue
        found |= {int(number)} if parent == FORK_SERVER._forkserver_pid else set()
    return found


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def test_jobs_end_with_the_codes_of_their_commands_and_of_the_signals_that_killed_them(
    pool: Pool, tmp_path: Path
) -> None:
    codes = run_all(pool, [job(tmp_path, word) for word in ("0", "75", "kill", "raise")])

    assert codes == {"0": 0, "75": 75, "kill": -signal.SIGKILL, "raise": 70}
    assert "a bug" in (tmp_path / "raise" / "output.txt").read_text()
    assert "a complaint" in (tmp_path / "0" / "output.txt").read_text()


def processes(folder: Path, pool: Pool, *words: str) -> list[str]:
    """Run jobs one after the other; return the processes that ran them, all of which must have been clean before."""
    found = []
    for number, word in enumerate(words):
        run_all(pool, [job(folder, word, f"{number}_{word}")])
        process, state = (folder / f"{number}_{word}" / "output.txt").read_text().split()[:2]
        assert state == "clean"
        found.append(process)
    return found


def test_a_process_that_short_jobs_leave_as_it_was_runs_them_all(pool: Pool, tmp_path: Path) -> None:
    assert len(set(processes(tmp_path, pool, "0", "0", "0", "0"))) == 1

    codes = run_all(pool, [job(tmp_path, "0", name) for name in "abcdef"])

    said = [(tmp_path / name / "output.txt").read_text().split("\n") for name in "abcdef"]
    assert set(codes.values()) == {0}
    assert len({lines[0] for lines in said}) == 2
    assert {tuple(lines[1:]) for lines in said} == {("a complaint", "")}


LEFT = ("environment", "random", "file", "thread", "handler", "folder", "module", "warn")


@pytest.mark.parametrize("word", [*LEFT, "75", "raise", "kill"])
def test_a_job_that_fails_or_leaves_something_behind_is_the_last_of_its_process(
    word: str, pool: Pool, tmp_path: Path
) -> None:
    first, second, third = processes(tmp_path, pool, word, "0", "0")

    assert first != second == third


def test_a_warning_is_shown_again_in_the_next_job(pool: Pool, tmp_path: Path) -> None:
    processes(tmp_path, pool, "warn", "warn")

    for number in range(2):
        assert "UserWarning: beware" in (tmp_path / f"{number}_warn" / "output.txt").read_text()


def test_a_process_that_is_killed_while_it_waits_costs_one_job_an_attempt(pool: Pool, tmp_path: Path) -> None:
    pool.submit(job(tmp_path, "wait"))
    assert pool.ended(0.1) == []
    assert eventually(lambda: len(children()) == 2)  # the job, and the one that waits for the next
    busy = int((tmp_path / "wait" / "output.txt").read_text().split()[0])
    for process in children() - {busy}:
        os.kill(process, signal.SIGKILL)
    assert eventually(lambda: children() == {busy})

    pool.submit(job(tmp_path, "0"))
    (ended,) = pool.ended(5.0)
    assert (ended.name, ended.exit_code) == ("0", -signal.SIGKILL)

    pool.submit(job(tmp_path, "0"))
    (ended,) = pool.ended(5.0)
    assert (ended.name, ended.exit_code) == ("0", 0)
    pool.stop()
    assert [ended.exit_code for ended in pool.ended(5.0)] == [-signal.SIGTERM]


def test_a_terminal_s_ctrl_c_is_left_to_the_parent(pool: Pool, tmp_path: Path) -> None:
    assert run_all(pool, [job(tmp_path, "interrupt")]) == {"interrupt": 0}


def test_a_signal_ends_the_wait_for_jobs(pool: Pool, tmp_path: Path) -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        pool.submit(job(tmp_path, "wait"))
        assert pool.ended(0.1) == []
        begun = time.monotonic()
        threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1)).start()

        assert pool.ended(30.0) == []

        assert heard == [signal.SIGUSR1]
        assert time.monotonic() - begun < 15
    finally:
        signal.signal(signal.SIGUSR1, former)
        pool.stop()
    assert [ended.exit_code for ended in pool.ended(5.0)] == [-signal.SIGTERM]


def test_no_process_is_left_when_the_pool_is_closed(pool: Pool, tmp_path: Path) -> None:
    run_all(pool, [job(tmp_path, "0")])

    pool.close()

    assert eventually(lambda: not children())


def test_no_process_is_left_when_the_pool_is_closed_while_a_job_runs(pool: Pool, tmp_path: Path) -> None:
    pool.submit(job(tmp_path, "pause"))
    assert eventually(lambda: (tmp_path / "pause" / "output.txt").exists())

    pool.close()

    assert eventually(lambda: not children())
    assert "complaint" in (tmp_path / "pause" / "output.txt").read_text()


def test_a_job_that_has_not_begun_when_its_pool_is_closed_leaves_nothing(pool: Pool, tmp_path: Path) -> None:
    assert eventually(lambda: not children())
    pool.prepare()
    assert eventually(lambda: len(children()) == 1)
    (waiting,) = children()

    os.kill(waiting, signal.SIGSTOP)
    pool.submit(job(tmp_path, "0"))
    pool.close()
    os.kill(waiting, signal.SIGCONT)

    assert eventually(lambda: not children())
    assert list(tmp_path.iterdir()) == []
