from __future__ import annotations

import json
import multiprocessing
import time
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from foundations.storage.locks import is_held, lock, read_holder

FORK = multiprocessing.get_context("fork")


def hold(path: Path, seconds: float, ready: Event) -> None:
    with lock(path, "the run", print):
        ready.set()
        time.sleep(seconds)


def started_holder(path: Path, seconds: float) -> ForkProcess:
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(path, seconds, ready))
    process.start()
    assert ready.wait(20)
    return process


def test_a_lock_is_held_inside_its_block_only(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "run.lock"
    assert not is_held(path)

    with lock(path, "the run", print):
        assert is_held(path)

    assert not is_held(path)


def test_a_lock_ends_with_an_error_inside_its_block(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"

    try:
        with lock(path, "the run", print):
            raise KeyError
    except KeyError:
        pass

    assert not is_held(path)


def test_who_waits_says_once_for_whom_and_then_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    process = started_holder(path, 0.5)
    said: list[str] = []
    assert is_held(path)

    with lock(path, "the run", said.append):
        process.join(20)  # it has let go, so it ends
        assert process.exitcode == 0

    assert len(said) == 1
    assert f"process {process.pid} on " in said[0]
    assert "the run" in said[0]


def test_who_need_not_wait_says_nothing(tmp_path: Path) -> None:
    said: list[str] = []

    with lock(tmp_path / "run.lock", "the run", said.append):
        pass

    assert said == []


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    process = started_holder(path, 60)
    process.kill()
    process.join()
    said: list[str] = []

    assert not is_held(path)
    with lock(path, "the run", said.append):
        pass
    assert said == []


def test_two_locks_are_independent(tmp_path: Path) -> None:
    with lock(tmp_path / "a.lock", "a", print), lock(tmp_path / "b.lock", "b", print):
        assert is_held(tmp_path / "a.lock")
        assert is_held(tmp_path / "b.lock")


@pytest.mark.parametrize("facts", [{"since": "0it"}, {"pid": []}, {"speed": 10**400}, {"at": True}, [1]])
def test_what_a_holder_cannot_have_said_is_nothing(tmp_path: Path, facts: object) -> None:
    (tmp_path / "run.holder").write_text(json.dumps(facts))

    assert read_holder(tmp_path / "run.lock") is None
