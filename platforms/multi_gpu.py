"""The platform for one job in several processes of this machine: one for each GPU, or some that share the CPUs.

The process that the user started holds the run's lock, starts the others (`platforms.rank`), passes on what the primary
one reports, and ends all of them as soon as one fails. The job itself runs in the processes it started, none of which
outlives it.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import pickle
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from foundations.errors import EnvironmentFailure, OpenPruneError, UsageError
from foundations.hparams import hparam
from foundations.interrupts import Interrupts
from foundations.registry import loaded_plugins
from foundations.reporter import NullReporter, Reporter
from platforms.base import Platform, PlatformHparams, PlatformKind, Result
from platforms.local import LocalPlatform
from platforms.rank import INTERRUPTS, PLATFORM, REPORTER, Rank, restored_error, run_rank

if TYPE_CHECKING:
    import torch

_SECONDS_BETWEEN_LOOKS = 0.1
_GRACE_SECONDS = 3.0
"""How long the others may take to fail for a reason of their own once a process has failed."""
_NESTED = 20_000
"""How deep descriptions may nest that are sent to other processes: a long chain of branches nests deeply."""


@dataclass(frozen=True, kw_only=True)
class MultiGpuHparams(PlatformHparams):
    """Where the job runs. Not part of a run's address."""

    num_processes: int | None = hparam(None, at_least=1)
    """Processes that share each batch; by default as many as there are GPUs, one on each. More than one on CPUs must be
    asked for. Batch normalization sees the examples of its process only, unless --sync_batchnorm is given."""


class MultiGpuPlatform(Platform):
    """Runs the job in several processes, which split each batch."""

    def __init__(self, hparams: MultiGpuHparams) -> None:
        if hparams.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"'{hparams.device}' is not a valid value; choose from auto, cpu, cuda.", "device")
        self._hparams = hparams

    @property
    def device(self) -> torch.device:
        """The kind of device that the processes use. Raises: EnvironmentFailure where it is not there."""
        return LocalPlatform(self._hparams).device

    def launch(self, job: Callable[[Platform], Result]) -> Result:
        """Run the job, which must be picklable, in all processes; return what the primary one returns.

        Raises: what the job raises; EnvironmentFailure where a process was killed, within seconds.
        """
        count, kind = self._count(), self.device.type
        if count == 1:
            return LocalPlatform(self._hparams).launch(job)
        with tempfile.TemporaryDirectory(prefix="open_prune_") as folder:
            ranks = [
                Rank(
                    number,
                    count,
                    f"cuda:{number}" if kind == "cuda" else kind,
                    _threads_of(self._hparams.threads, count),
                    f"{folder}/store",
                    tuple(plugin.path for plugin in loaded_plugins()),
                )
                for number in range(count)
            ]
            return _Processes(ranks, _Packed(job, self)).result()  # type: ignore[no-any-return]

    def _count(self) -> int:
        """Return the number of processes. Raises: UsageError, EnvironmentFailure where there are too few GPUs."""
        import torch

        asked = self._hparams.num_processes
        if self.device.type != "cuda":
            if asked is None:
                raise UsageError("there is no GPU whose number could be taken; give one.", "num_processes")
            return asked
        found = torch.cuda.device_count()
        if asked is not None and asked > found:
            raise EnvironmentFailure(f"There are {found} GPUs here for {asked} processes. Choose fewer processes.")
        return asked or found


MULTI_GPU = PlatformKind(
    spelling="multi_gpu",
    make=MultiGpuPlatform,
    runs="in several processes that split each batch, one on each GPU, or some on CPUs",
    hparams=MultiGpuHparams,
)


class _Packed:
    """A job as bytes, and what of this process is left out: in each process, another one stands for it."""

    def __init__(self, job: Callable[[Platform], Any], platform: Platform) -> None:
        """Pickle the job. Raises: what pickle raises."""
        self.reporter: Reporter = NullReporter()
        self.interrupts = Interrupts()
        file = io.BytesIO()
        former = sys.getrecursionlimit()
        sys.setrecursionlimit(max(former, _NESTED))
        try:
            _Pickler(file, lambda found: self._left_out(found, platform)).dump(job)
        finally:
            sys.setrecursionlimit(former)
        self.job = file.getvalue()

    def _left_out(self, found: Any, platform: Platform) -> str | None:
        if found is platform:
            return PLATFORM
        if isinstance(found, Interrupts):
            self.interrupts = found
            return INTERRUPTS
        if isinstance(found, Reporter) and not isinstance(found, type):
            self.reporter = found
            return REPORTER
        return None


class _Pickler(pickle.Pickler):
    """A pickler that leaves some objects out, and writes a name for each."""

    def __init__(self, file: io.BytesIO, left_out: Callable[[Any], str | None]) -> None:
        super().__init__(file)
        self._left_out = left_out

    def persistent_id(self, found: Any) -> str | None:
        """Return the name of an object that is left out."""
        return self._left_out(found)


class _Processes:
    """The processes of a job."""

    def __init__(self, ranks: list[Rank], packed: _Packed) -> None:
        """Take what each process is, and the job."""
        self._ranks, self._packed = ranks, packed
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        self._results: dict[int, Any] = {}
        self._refusals: dict[int, OpenPruneError] = {}
        self._failures: dict[int, str] = {}
        self._open: set[Connection] = set()

    def result(self) -> Any:
        """Run the job, and return what the primary process returns. Raises: what is most telling of what went wrong."""
        interrupts, has_passed_on = self._packed.interrupts, False
        deadline: float | None = None
        with interrupts.deferred(), self._running():
            while len(self._results) < len(self._ranks):
                if interrupts.signal_number is not None and not has_passed_on:
                    has_passed_on = True
                    with contextlib.suppress(OSError):  # it has just ended, as the next look will find
                        self._connections[0].send(interrupts.signal_number)
                self._listen()
                if deadline is None and (self._refusals or self._failures or self._killed()):
                    deadline = time.monotonic() + _GRACE_SECONDS
                if deadline is not None and (time.monotonic() > deadline or not self._at_work()):
                    raise self._error()
            for process in self._processes:
                process.join(_GRACE_SECONDS)
        return self._results[0]

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Start the processes; at the end, none is left."""
        context = multiprocessing.get_context("spawn")
        try:
            with _signals_blocked():  # a terminal signals them, too; they follow this process
                for rank in self._ranks:
                    own, others = context.Pipe()
                    process = context.Process(target=run_rank, args=(rank, self._packed.job, others))
                    process.start()
                    others.close()
                    self._connections.append(own)
                    self._processes.append(process)
            self._open = set(self._connections)
            yield
        finally:
            for process in self._processes:
                process.kill()
            for process in self._processes:
                process.join()
            for connection in self._connections:
                connection.close()

    def _listen(self) -> None:
        """Take what the processes send, waiting for a moment."""
        for connection in wait(list(self._open), _SECONDS_BETWEEN_LOOKS) if self._open else ():
            assert isinstance(connection, Connection)
            try:
                kind, content = connection.recv()
            except (EOFError, OSError):
                self._open.discard(connection)
                continue
            number = self._connections.index(connection)
            if kind == "say":
                self._packed.reporter.say(content)
            elif kind == "progress":
                self._packed.reporter.progress(*content)
            elif kind == "result":
                self._results[number] = content
            elif kind == "refused":
                self._refusals[number] = restored_error(*content)
            else:
                self._failures[number] = content

    def _at_work(self) -> list[int]:
        """Return the processes that may still say what became of them."""
        ended = self._results.keys() | self._refusals.keys() | self._failures.keys() | self._killed().keys()
        return [rank.number for rank in self._ranks if rank.number not in ended]

    def _killed(self) -> dict[int, int]:
        """Return the exit codes of the processes that ended without a word."""
        ended = self._results.keys() | self._refusals.keys() | self._failures.keys()
        # Looked at in this order: what a process says comes before its end.
        codes = {number: process.exitcode for number, process in enumerate(self._processes)}
        return {
            number: code
            for number, code in codes.items()
            if code is not None and number not in ended and not _has_more(self._connections[number], self._open)
        }

    def _error(self) -> Exception:
        """Return the error of the process that failed first: the others lost it, and failed of that."""
        if self._refusals:
            return self._refusals[min(self._refusals)]
        for number, code in self._killed().items():
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            return EnvironmentFailure(
                f"Process {number} of the {len(self._ranks)} that this job runs in {how}.\n"
                "The same command continues from the last checkpoint."
            )
        number, trace = next(iter(self._failures.items()))
        return RuntimeError(f"process {number} of {len(self._ranks)} failed:\n{trace}")


def _has_more(connection: Connection, still_open: set[Connection]) -> bool:
    try:
        return connection in still_open and connection.poll()
    except (EOFError, OSError):
        return False


def _threads_of(threads: int | None, count: int) -> int:
    import torch

    return max(1, (threads or torch.get_num_threads()) // count)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Inside the block, started processes get no SIGINT and no SIGTERM, and keep it so."""
    numbers = {signal.SIGINT, signal.SIGTERM}
    former = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
