"""Commands in processes of their own that something happens to, and how they may end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from tests.cli.terminal import FORK, Result, Running
from tests.conftest import REPOSITORY

SECONDS = 60.0
"""Time limit; anything slower hangs."""
Prepare = Callable[[], None]
"""Preparation in a command's process, before the command."""


class Prepared(Running):
    """A command under way, in a process forked from this one, where something was done before."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str], *prepare: Prepare) -> None:
        self._prepare = prepare
        super().__init__(arguments, environment)

    def _start(self, arguments: tuple[str, ...], environment: dict[str, str], _user: int | None) -> ForkProcess:
        # What a command would wait for.
        import rich.table  # noqa: F401
        import torch  # noqa: F401

        import cli.main  # noqa: F401
        import training.jobs.one_run  # noqa: F401

        process = FORK.Process(target=self._main, args=(arguments, environment))
        process.start()
        return process

    def _main(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        for descriptor, file in zip((1, 2), self._output, strict=True):
            os.dup2(file.fileno(), descriptor)
        sys.stdout, sys.stderr = (open(descriptor, "w", closefd=False) for descriptor in (1, 2))  # noqa: SIM115
        sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115
        os.environ.update(environment)
        os.chdir(REPOSITORY)
        for each in self._prepare:
            each()
        from cli.main import main

        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
        sys.exit(code)


def fork_the_pool() -> None:
    """Let a pool fork its workers from its own process, not from a server, which would import torch each time."""
    setattr(multiprocessing, "get_context", lambda _method=None: _ForkedPool())  # noqa: B010


class _ForkedPool:
    """The part of a multiprocessing context that a pool uses. Its children are clean, like those of a fork server."""

    ours: list[Connection[Any, Any]] = []  # noqa: RUF012 (it is of the whole process)

    def set_forkserver_preload(self, _modules: list[str]) -> None:
        """Do nothing: all is imported."""

    def Pipe(self) -> tuple[Connection[Any, Any], Connection[Any, Any]]:
        pipe = FORK.Pipe()
        self.ours.append(pipe[0])
        return pipe

    def Process(self, target: Callable[..., None], args: tuple[Any, ...]) -> ForkProcess:
        return FORK.Process(target=self._begin, args=(target, args))

    def _begin(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for each in self.ours:
            each.close()
        target(*arguments)


def finished(running: Running) -> Result:
    """Wait for a command and the processes that it forked. Raises: AssertionError where it hangs."""
    begun = time.monotonic()
    running.process.join(SECONDS)  # until the last of its children has ended, too
    if running.process.is_alive() or time.monotonic() - begun >= SECONDS:
        running.kill()
        raise AssertionError(f"it hung: {running.output()}")
    return running.result()


def wait_for_orphans(root: Path) -> None:
    """Wait until no process is left that was started, however indirectly, by one that worked on a root."""
    deadline = time.monotonic() + SECONDS
    while _orphans(root):
        assert time.monotonic() < deadline, f"these hang: {_orphans(root)}"
        time.sleep(0.05)


def _orphans(root: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"OPEN_PRUNE_ROOT={root}\0".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def judge_output(result: Result, codes: tuple[int, ...], where: str, *, is_list: bool = False) -> None:
    """Assert that a command ended as people may expect: without a traceback, and if it failed, in few lines.

    is_list: whether it prints what is wrong as its result.
    """
    assert "Traceback" not in result.out + result.err, where
    assert result.code in codes, f"{where}\nexit code {result.code}"
    if result.code in (1, 2) and not is_list and "\nfailed " not in result.out:  # as sweeps say it
        assert 1 <= len(result.err.strip().splitlines()) <= 3, where
