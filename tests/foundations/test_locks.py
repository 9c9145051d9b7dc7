import multiprocessing
import os
import signal
import time

from foundations.locks import is_held, lock

FORK = multiprocessing.get_context("fork")


def hold(path, seconds, ready):
    with lock(path, "the run", print):
        ready.set()
        time.sleep(seconds)


def started_holder(path, seconds):
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(path, seconds, ready))
    process.start()
    assert ready.wait(20)
    return process


def test_a_lock_is_held_inside_its_block_only(tmp_path):
    path = tmp_path / "locks" / "run.lock"
    assert not is_held(path)

    with lock(path, "the run", print):
        assert is_held(path)

    assert not is_held(path)


def test_a_lock_ends_with_an_error_inside_its_block(tmp_path):
    path = tmp_path / "run.lock"

    try:
        with lock(path, "the run", print):
            raise KeyError
    except KeyError:
        pass

    assert not is_held(path)


def test_who_waits_says_once_for_whom_and_then_goes_on(tmp_path):
    path = tmp_path / "run.lock"
    process = started_holder(path, 0.5)
    said = []
    assert is_held(path)

    with lock(path, "the run", said.append):
        process.join(20)  # it has let go, so it ends
        assert process.exitcode == 0

    assert len(said) == 1
    assert f"process {process.pid} on " in said[0]
    assert "the run" in said[0]


def test_who_need_not_wait_says_nothing(tmp_path):
    said = []

    with lock(tmp_path / "run.lock", "the run", said.append):
        pass

    assert said == []


def test_a_killed_process_leaves_no_lock(tmp_path):
    path = tmp_path / "run.lock"
    process = started_holder(path, 60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    said = []

    assert not is_held(path)
    with lock(path, "the run", said.append):
        pass
    assert said == []


def test_two_locks_are_independent(tmp_path):
    with lock(tmp_path / "a.lock", "a", print), lock(tmp_path / "b.lock", "b", print):
        assert is_held(tmp_path / "a.lock")
        assert is_held(tmp_path / "b.lock")
