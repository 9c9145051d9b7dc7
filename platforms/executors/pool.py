"""`pool`: processes of this machine, as many at once as it has slots.

A slot has a device, or a share of the CPU's cores. The fork server of Python's multiprocessing imports torch once; each
job is a child forked from it, so it starts in milliseconds, in a clean state of its own, and its crash is its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from foundations.hparams import hparam
from foundations.program import TOP
from foundations.registry import load
from platforms.executors.base import CommandJob, Ended, Executor, ExecutorHparams, ExecutorKind, Program, with_threads

_SOFTWARE_ERROR = 70  # as sysexits.h has it: the command ended by an exception that is a bug


@dataclass(frozen=True, kw_only=True)
class PoolHparams(ExecutorHparams):
    """Processes of this machine."""

    jobs: int | None = hparam(None, at_least=1)
    """How many jobs run at once; by default one a core, or --jobs_per_device on each GPU."""
    jobs_per_device: int = hparam(1, at_least=1)
    """How many jobs share a GPU."""


class Pool(Executor):
    """Runs each job in a process of its own, forked from one that has imported torch."""

    def __init__(self, hparams: PoolHparams, program: Program) -> None:
        """Start nothing yet: the fork server starts with the first job."""
        self._program = program
        self._gpus = _gpus()
        cores = _cores()
        self._size = hparams.jobs or (len(self._gpus) * hparams.jobs_per_device or cores)
        self._threads = max(1, cores // self._size)
        self._running: dict[str, tuple[BaseProcess, int]] = {}

    def has_room(self) -> bool:
        """Return whether a slot is free."""
        return len(self._running) < self._size

    def submit(self, job: CommandJob) -> None:
        """Start a job in a free slot."""
        used = {slot for _, slot in self._running.values()}
        slot = next(slot for slot in range(self._size) if slot not in used)
        arguments = (*with_threads(job, self._threads), *self._device(job.arguments, slot))
        process = self._context.Process(target=_run, args=(self._program.entry, arguments, job.output), name=job.name)
        with _found_by_the_fork_server():
            process.start()
        self._running[job.name] = (process, slot)

    def ended(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended, waiting up to some seconds for one."""
        by_sentinel = {process.sentinel: name for name, (process, _) in self._running.items()}
        found = []
        for sentinel in connection.wait(list(by_sentinel), seconds):
            name = by_sentinel[sentinel]  # type: ignore[index]
            process, _ = self._running.pop(name)
            process.join()
            found.append(Ended(name, process.exitcode or 0))
            process.close()
        return found

    def stop(self) -> None:
        """Send SIGTERM to every job."""
        for process, _ in self._running.values():
            process.terminate()

    def slots(self) -> int:
        """Return how many slots there are."""
        return self._size

    def states(self) -> Mapping[str, str]:
        """Return that all of them run."""
        return dict.fromkeys(self._running, "running")

    @property
    def _context(self) -> ForkServerContext:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", *self._program.preload])
        return context

    def _device(self, arguments: Sequence[str], slot: int) -> list[str]:
        """Return the flag for the slot's device, unless there is none or the command says where it runs."""
        is_given = any(argument.partition("=")[0] in ("--device", "--platform") for argument in arguments)
        return [] if is_given or not self._gpus else [f"--device=cuda:{slot % len(self._gpus)}"]


POOL = ExecutorKind(spelling="pool", hparams=PoolHparams, make=Pool, runs="in processes of this machine")


def _run(entry: str, arguments: Sequence[str], output: Path) -> None:
    """Run a command in this child, with its output in a file; end when the parent has ended."""
    os.setsid()  # Ctrl-C on the terminal is the parent's; it asks its children to stop
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        code = load(entry)(list(arguments))
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = _SOFTWARE_ERROR
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # no clean-up of a process that is about to vanish: unloading torch takes 0.1 seconds


@contextlib.contextmanager
def _found_by_the_fork_server() -> Iterator[None]:
    """Let a fork server that is started in the block find our modules, as Python 3.11's ignores sys.path."""
    former = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TOP), former)))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if former is not None:
            os.environ["PYTHONPATH"] = former


def _end_with_parent() -> None:
    """Ask this process to write a checkpoint and end as soon as the parent is gone, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[int]:
    """Return the numbers of the NVIDIA GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return list(range(len([part for part in visible.split(",") if part.strip() not in ("", "-1")])))
    return list(range(sum(bool(re.fullmatch(r"nvidia\d+", name)) for name in os.listdir("/dev"))))  # noqa: PTH208
