"""Starting the processes of a job, listening to them, and ending them.

The process that the user started holds the run's lock, starts the others (`platforms.rank`), forwards the reports of
the primary one, and ends all of them as soon as one fails. The job itself runs in the started processes, none of which
outlives the first.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from foundations.errors import EnvironmentFailure, Interrupted, OpenPruneError
from foundations.interrupts import CONTINUES, Interrupts, blocked
from foundations.reporter import NullReporter, Reporter
from platforms.platform import Platform
from platforms.rank import INTERRUPTS, PLATFORM, REPORTER, Rank, restored_error, run_rank

_SECONDS_BETWEEN_LOOKS = 0.1
_GRACE_SECONDS = 3.0
"""Once a process has failed, the time within which the others may fail for a reason of their own."""
_SECONDS_TO_END = 0.7
"""Time within which the primary process must end after a request to stop, unless it trains."""
_NESTED = 20_000
"""Maximum nesting of descriptions sent to other processes: a long chain of branches nests deeply."""


class Packed(pickle.Pickler):
    """A job as bytes, without the objects of this process, which each process replaces with its own."""

    def __init__(self, job: Callable[[Platform], Any], platform: Platform) -> None:
        """Pickle the job. Raises: the errors of pickle."""
        file = io.BytesIO()
        super().__init__(file)
        self._platform = platform
        self.reporter: Reporter = NullReporter()
        self.interrupts = Interrupts()
        former = sys.getrecursionlimit()
        sys.setrecursionlimit(max(former, _NESTED))
        try:
            self.dump(job)
        finally:
            sys.setrecursionlimit(former)
        self.job = file.getvalue()

    def persistent_id(self, found: Any) -> str | None:
        """Return the name of an omitted object; None for others."""
        if found is self._platform:
            return PLATFORM
        if isinstance(found, Interrupts):
            self.interrupts = found
            return INTERRUPTS
        if isinstance(found, Reporter) and not isinstance(found, type):
            self.reporter = found
            return REPORTER
        return None


class Processes:
    """The processes of a job."""

    def __init__(self, ranks: list[Rank], packed: Packed) -> None:
        """Take the ranks of the processes, and the job."""
        self._ranks, self._packed = ranks, packed
        self._connections: list[Connection] = []
        self._processes: list[Any] = []
        self._outcomes: dict[int, tuple[str, Any]] = {}
        """Outcomes of ended processes: result, refused (an error for people), failed (a traceback) or died (a code)."""
        self._open: set[Connection] = set()
        self._trains = False
        """Whether the primary process trains: asked to stop, it writes a checkpoint first."""
        self._asked: float | None = None
        """Time of the request to stop, or the last time since then at which it was known to train."""

    def result(self) -> Any:
        """Run the job, and return the primary process's result. Raises: the error that best explains a failure."""
        interrupts = self._packed.interrupts
        deadline: float | None = None
        with interrupts.deferred(), self._running():
            while len(self._of_kind("result")) < len(self._ranks):
                if interrupts.signal_number is not None:
                    self._pass_on(interrupts)
                self._listen()
                if deadline is None and len(self._outcomes) > len(self._of_kind("result")):
                    deadline = time.monotonic() + _GRACE_SECONDS
                # No better explanation can come where the primary process refused the job, or all have ended.
                is_settled = 0 in self._of_kind("refused") or len(self._outcomes) == len(self._ranks)
                if deadline is not None and (time.monotonic() > deadline or is_settled):
                    raise self._error()
            for process in self._processes:
                process.join(_GRACE_SECONDS)
        return self._outcomes[0][1]

    def _pass_on(self, interrupts: Interrupts) -> None:
        """Ask the primary process to stop. Raises: Interrupted if it starts, or its work cannot be checkpointed."""
        now = time.monotonic()
        if self._asked is None:
            with contextlib.suppress(OSError):  # it has just ended, as the next poll will find
                self._connections[0].send(interrupts.signal_number)
        if self._asked is None or self._trains:
            self._asked = now
        elif now - self._asked > _SECONDS_TO_END and 0 not in self._outcomes:
            raise interrupts.interrupted(CONTINUES)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Start the processes; at the end, none is left."""
        context = multiprocessing.get_context("spawn")
        try:
            with blocked():  # a terminal signals them, too; only this process may stop them
                for rank in self._ranks:
                    own, others = context.Pipe()
                    work = self._packed.interrupts.work
                    process = context.Process(target=run_rank, args=(rank, self._packed.job, others, work))
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
        """Receive messages of the processes, waiting for a moment, and note which ended without one."""
        codes = {number: process.exitcode for number, process in enumerate(self._processes)}
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
            elif kind == "trains":
                self._trains = content if number == 0 else self._trains
            else:
                self._outcomes[number] = (kind, content)
        for number, code in codes.items():
            # It had ended before this looked for its last message.
            if code is not None and number not in self._outcomes and not self._has_more(number):
                self._outcomes[number] = ("died", code)

    def _has_more(self, number: int) -> bool:
        """Return whether a process has sent messages that were not received."""
        connection = self._connections[number]
        try:
            return connection in self._open and connection.poll()
        except (EOFError, OSError):
            return False

    def _of_kind(self, kind: str) -> dict[int, Any]:
        """Return the outcomes of one kind, by process."""
        return {number: content for number, (each, content) in self._outcomes.items() if each == kind}

    def _error(self) -> BaseException:
        """Return the error of the process that failed first: the others lost their connection to it, and failed too."""
        if refused := self._of_kind("refused"):
            error: OpenPruneError | Interrupted = restored_error(*refused[min(refused)])
            return error
        for number, code in self._of_kind("died").items():
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            return EnvironmentFailure(
                f"Process {number} of the {len(self._ranks)} that this job runs in {how}.\n"
                "The same command continues from the last checkpoint."
            )
        number, trace = next(iter(self._of_kind("failed").items()))
        return RuntimeError(f"process {number} of {len(self._ranks)} failed:\n{trace}")
