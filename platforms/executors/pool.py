"""`pool`: processes of this machine, as many at once as it has slots.

A slot has a device, or a share of the CPU's cores. The fork server of Python's multiprocessing imports torch once; each
job is a child forked from it, so it starts in milliseconds, in a clean state, and a crash affects no other job.

Forking such a process and ending it costs as much time as a tiny run. So the next child is forked while others work,
and waits for its job; and a child reports the end of its job before it exits.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from foundations.description.hparams import hparam
from foundations.interrupts import blocked, unblock
from foundations.program import TOP
from foundations.registry import load
from platforms.executors.executor import CommandJob, Ended, Executor, Program, with_threads
from platforms.executors.registry import ExecutorHparams, ExecutorKind

_Task = tuple[str, tuple[str, ...], Path]
"""Message to a child: the program's entry, the arguments, and the file for the output."""
_SOFTWARE_ERROR = 70  # as in sysexits.h: the command ended by an exception that is a bug


@dataclass(frozen=True, kw_only=True)
class PoolHparams(ExecutorHparams):
    """Processes of this machine."""

    jobs: int | None = hparam(None, at_least=1)
    """Number of jobs that run at once; by default one a core, or --jobs_per_device on each GPU."""
    jobs_per_device: int = hparam(1, at_least=1)
    """Number of jobs that share a GPU."""


@dataclass(eq=False)
class _Worker:
    """A child that waits for its only job, or runs it."""

    process: BaseProcess
    channel: connection.Connection
    """Sends the job and receives its exit code."""


class Pool(Executor):
    """Runs each job in a process of its own, forked from one that has imported torch."""

    def __init__(self, hparams: PoolHparams, program: Program) -> None:
        """Start nothing yet: the fork server starts with the first job."""
        self._program = program
        self._gpus = _gpus()
        cores = _cores()
        self._size = hparams.jobs or (len(self._gpus) * hparams.jobs_per_device or cores)
        self._threads = max(1, cores // self._size)
        self._running: dict[str, tuple[_Worker, int]] = {}
        self._spare: _Worker | None = None
        self._is_stopped = False
        self._held = contextlib.ExitStack()
        self._signals: socket.socket | None = None
        """Becomes readable on a signal, which wakes `ended`."""

    def __enter__(self) -> Self:
        """Let signals wake `ended` until the end."""
        self._signals = self._held.enter_context(_signals_readable())
        return self

    def prepare(self) -> None:
        """Start the fork server, and wait until it has imported the modules that jobs need."""
        try:
            self._spare = self._spare or self._forked()
        except BaseException:
            _kill_fork_server()
            raise

    def has_room(self) -> bool:
        """Return whether a slot is free."""
        return len(self._running) < self._size

    def submit(self, job: CommandJob) -> None:
        """Start a job in a free slot."""
        used = {slot for _, slot in self._running.values()}
        slot = next(slot for slot in range(self._size) if slot not in used)
        arguments = (*with_threads(job, self._threads), *self._device(job.arguments, slot))
        worker, self._spare = self._spare or self._forked(), None
        task: _Task = (self._program.entry, arguments, job.output)
        with contextlib.suppress(BrokenPipeError):  # killed while it waited, as `ended` will find
            worker.channel.send(task)
        self._running[job.name] = (worker, slot)

    def ended(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended, waiting up to some seconds for one."""
        if self._running and self._spare is None:
            self._spare = self._forked()
        signs: dict[Any, str] = {worker.process.sentinel: name for name, (worker, _) in self._running.items()}
        if not self._gpus:  # a process frees the memory of its GPU only when it exits
            signs |= {worker.channel: name for name, (worker, _) in self._running.items()}
        signals = [] if self._signals is None else [self._signals]
        ready = connection.wait([*signs, *signals], seconds)
        for each in signals:
            with contextlib.suppress(BlockingIOError):
                each.recv(1 << 12)
        names = {signs[sign] for sign in ready if sign in signs}
        return [Ended(name, _exit_code(self._running.pop(name)[0])) for name in names]

    def stop(self) -> None:
        """Send SIGTERM to every job."""
        self._is_stopped = True
        for worker, _ in self._running.values():
            worker.process.terminate()

    def close(self) -> None:
        """Let the child that waits for a job end."""
        if self._spare is not None:
            self._spare.channel.close()
            if self._is_stopped:
                self._spare.process.kill()
            self._spare = None
        if self._is_stopped:
            _kill_fork_server()
        self._held.close()

    def slots(self) -> int:
        """Return the number of slots."""
        return self._size

    def threads(self) -> int:
        """Return the number of threads of a job."""
        return self._threads

    def _forked(self) -> _Worker:
        """Return a new child of the fork server, which waits for its job."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", __name__, *self._program.preload])
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,))
        with _found_by_the_fork_server():
            with blocked():  # in the server and its children; the pool asks the jobs to stop
                forkserver.ensure_running()
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _device(self, arguments: Sequence[str], slot: int) -> list[str]:
        """Return the flag for the slot's device; nothing if the slot has none or the command names a device."""
        is_given = any(argument.partition("=")[0] in ("--device", "--platform") for argument in arguments)
        return [] if is_given or not self._gpus else [f"--device=cuda:{slot % len(self._gpus)}"]


POOL = ExecutorKind(spelling="pool", hparams=PoolHparams, make=Pool, runs="in processes of this machine", is_local=True)


def _exit_code(worker: _Worker) -> int:
    """Return the exit code of a child's job, as the child reported it, or the signal that killed the child first."""
    with worker.channel as channel:
        try:
            return int(channel.recv())
        except (EOFError, ConnectionResetError):
            worker.process.join()
            return worker.process.exitcode or 0


def _work(channel: connection.Connection) -> None:
    """In a child: wait for a job, run it, and report its exit code. End when the parent has ended."""
    os.setsid()  # the parent handles Ctrl-C on the terminal, and asks its children to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it may have come before
    unblock()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        task: _Task = channel.recv()
    except EOFError:  # there is no more work
        os._exit(0)
    code = _run(*task)
    with contextlib.suppress(BrokenPipeError):  # the parent has ended
        channel.send(code)
    os._exit(code)  # exit without clean-up: unloading torch takes 0.1 seconds


def _run(entry: str, arguments: Sequence[str], output: Path) -> int:
    """Run a command with its output in a file, and return its exit code."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    try:
        code = int(load(entry)(list(arguments)))
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = _SOFTWARE_ERROR
    sys.stdout.flush()
    sys.stderr.flush()
    return code


@contextlib.contextmanager
def _found_by_the_fork_server() -> Iterator[None]:
    """Inside the block, let a new fork server find the project's modules: Python 3.11's ignores sys.path."""
    former = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TOP), former)))
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if former is not None:
            os.environ["PYTHONPATH"] = former


@contextlib.contextmanager
def _signals_readable() -> Iterator[socket.socket | None]:
    """Inside the block, yield a socket that becomes readable on a signal; in a thread, yield None."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    with contextlib.ExitStack() as held:
        ours, theirs = map(held.enter_context, socket.socketpair())
        for each in (ours, theirs):
            each.setblocking(False)
        former = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        held.callback(signal.set_wakeup_fd, former)
        yield ours


def _kill_fork_server() -> None:
    """End the fork server at once, even while it imports. Python starts another one on demand."""
    found: Any = getattr(forkserver, "_forkserver", None)
    pid = getattr(found, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            found._stop()  # waits for its end; otherwise the next pool might still ask the dying server for a child


def _end_with_parent() -> None:
    """Ask this process to write a checkpoint and end as soon as the parent is gone, for whatever reason."""
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
