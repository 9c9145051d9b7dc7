"""`pool`: processes of this machine, as many at once as it has slots.

A slot has a device, or a share of the CPU's cores. The fork server of Python's multiprocessing imports torch once; jobs
run in children forked from it, so they start in milliseconds, in a clean state, and a crash affects no other job.

Forking such a process, its first use of torch and its end cost as much time as a tiny run. So the next child is forked
while others work, and waits for its job; a child reports the end of its job before it exits; and after a short job that
succeeded and left the process as it was (`process_state`), the child takes another one.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from foundations.description.hparams import hparam
from foundations.interrupts import blocked, unblock
from foundations.program import TOP
from foundations.registry import load
from platforms.executors.executor import CommandJob, Ended, Executor, Program, with_threads
from platforms.executors.process_state import changes, process_state, resident_memory, warnings_noted
from platforms.executors.registry import ExecutorHparams, ExecutorKind

_Task = tuple[str, tuple[str, ...], Path]
"""Message to a child: the program's entry, its arguments, and the file for the output."""
_SHORT_SECONDS = 5.0
"""The longest job after which a child takes another one. Forking a child costs a fiftieth of that."""
_MOST_GROWTH = 256 * 2**20
"""The most bytes by which the memory of a child may grow after its first job."""
_SOFTWARE_ERROR = 70  # as in sysexits.h: the command ended by an exception that is a bug


@dataclass(frozen=True, kw_only=True)
class PoolHparams(ExecutorHparams):
    """Processes of this machine."""

    jobs: int | None = hparam(None, at_least=1)
    """Number of jobs that run at once; by default one a core, or --jobs_per_device on each GPU."""
    jobs_per_device: int = hparam(1, at_least=1)
    """Number of jobs that share a GPU."""


class _Report(NamedTuple):
    """The end of a job."""

    exit_code: int
    takes_more: bool = False
    """Whether the child waits for another job."""


@dataclass(eq=False)
class _Worker:
    """A child that waits for a job, or runs it."""

    process: BaseProcess
    channel: connection.Connection
    """Sends the job and receives its report."""


class Pool(Executor):
    """Runs jobs in processes forked from one that has imported torch."""

    def __init__(self, hparams: PoolHparams, program: Program) -> None:
        """Start nothing yet: the fork server starts with the first job."""
        self._program = program
        self._gpus = _gpus()
        cores = _cores()
        self._size = hparams.jobs or (len(self._gpus) * hparams.jobs_per_device or cores)
        self._threads = max(1, cores // self._size)
        self._running: dict[str, tuple[_Worker, int]] = {}
        self._spare: _Worker | None = None
        self._idle: list[_Worker] = []
        """Children that have run a job and wait for another one."""
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
        if self._idle:
            worker = self._idle.pop()
        else:
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
        return [Ended(name, self._exit_code(self._running.pop(name)[0])) for name in names]

    def _exit_code(self, worker: _Worker) -> int:
        """Return the exit code of a child's job: as the child reported it, or the signal that killed the child first.

        Keep the child if it takes more jobs.
        """
        try:
            report: _Report = worker.channel.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            report = _Report(worker.process.exitcode or 0)
        if report.takes_more and not self._gpus and not self._is_stopped:
            self._idle.append(worker)
        else:
            worker.channel.close()
        return report.exit_code

    def stop(self) -> None:
        """Send SIGTERM to every job."""
        self._is_stopped = True
        for worker, _ in self._running.values():
            worker.process.terminate()

    def close(self) -> None:
        """Let the children end: those that wait for a job at once, others, which an error has left, after theirs."""
        for worker in (*self._idle, *([self._spare] if self._spare else [])):
            worker.channel.close()
            if self._is_stopped:
                worker.process.kill()
        for worker, _ in self._running.values():
            worker.channel.close()
        self._idle, self._spare, self._running = [], None, {}
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
        process = context.Process(target=_work, args=(theirs, self._program.state))
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


def _work(channel: connection.Connection, own_state: str) -> NoReturn:
    """In a child: wait for a job, run it, and report its end; again while it takes more. End when the parent ends.

    own_state: `Program.state`.
    """
    os.setsid()  # the parent handles Ctrl-C on the terminal, and asks its children to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it may have come before
    unblock()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    state, memory = _state(own_state), 0
    while True:
        try:
            task: _Task = channel.recv()
            if channel.poll():  # the end of the channel, since nothing follows a task: its parent has left
                raise EOFError
        except (EOFError, ConnectionResetError):  # there is no more work
            os._exit(0)
        begun = time.monotonic()
        with warnings_noted() as warned:
            code = _run(*task)
        is_short = time.monotonic() - begun <= _SHORT_SECONDS
        takes_more = code == 0 and is_short and not warned and not changes(state, _state(own_state))
        if takes_more and not memory:
            gc.freeze()  # the collection after each job need not look at what the first one has loaded for all of them
        memory = memory or resident_memory()
        takes_more = takes_more and resident_memory() <= memory + _MOST_GROWTH
        with contextlib.suppress(BrokenPipeError):  # the parent has ended
            channel.send(_Report(code, takes_more))
        if not takes_more:
            os._exit(code)  # exit without clean-up: unloading torch takes 0.1 seconds


def _state(own_state: str) -> dict[str, Any]:
    """Return the state of the process and of the program, once objects that nothing uses are gone."""
    gc.collect()
    return process_state() | (load(own_state)() if own_state else {})


def _run(entry: str, arguments: Sequence[str], output: Path) -> int:
    """Run a command with its output in a file, and return its exit code."""
    output.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    with contextlib.ExitStack() as held:
        file = held.enter_context(output.open("ab", buffering=0))
        for stream in streams:
            former = os.dup(stream.fileno())
            held.callback(os.close, former)
            held.callback(os.dup2, former, stream.fileno())
            os.dup2(file.fileno(), stream.fileno())
        try:
            code = int(load(entry)(list(arguments)))
        except Exception:
            sys.excepthook(*sys.exc_info())
            code = _SOFTWARE_ERROR
        for stream in (*streams, sys.stdout, sys.stderr):
            stream.flush()
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
