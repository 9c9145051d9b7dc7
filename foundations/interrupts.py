"""SIGINT and SIGTERM, turned into a clean stop."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from foundations.errors import Interrupted

_NUMBERS = {signal.SIGINT, signal.SIGTERM}
_SECONDS_TO_UNWIND = 1.0
"""Time limit for cleaning up after a signal. Then the process ends: files are whole at any moment."""
_SECONDS_TO_REPEAT = 0.05
CONTINUES = "The same command continues from what was kept."
BEGINS_AGAIN = "Nothing is half-written; the same command begins again."


class Interrupts:
    """Catches SIGINT and SIGTERM while `caught()` is active.

    Ordinarily a signal raises Interrupted at once: files are written whole or not at all, so nothing is left half done.
    Inside `deferred()` the first signal only sets `signal_number`, for a loop that wants to write its checkpoint first;
    a second one raises. `at_once()`, inside `deferred()`, is for long parts of such a loop that can be abandoned.
    """

    def __init__(
        self, what_now: str = CONTINUES, work: str = "", tell: Callable[[bool], None] = lambda _: None
    ) -> None:
        """Take the sentence on how to continue, and the work that a signal stops, for the message.

        tell: called with True when signals begin to be deferred, and with False when they no longer are.
        """
        self.signal_number: int | None = None
        self.work = work
        self._what_now, self._tell = what_now, tell
        self._deferred = 0
        """The number of open `deferred` blocks."""
        self._at_once = 0
        """The number of open `at_once` blocks."""
        self._unwound: threading.Event | None = None
        """Set when the program has cleaned up after a signal; None where there was none."""

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Install the handlers; restore the former ones at the end. Outside the main thread, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former_hook = sys.unraisablehook

        def hook(unraisable: Any) -> None:
            if not isinstance(unraisable.exc_value, Interrupted):
                former_hook(unraisable)
            elif self.signal_number is not None:  # it was raised in a destructor, where it is lost: once more
                repeat = (threading.main_thread().ident, self.signal_number)
                threading.Timer(_SECONDS_TO_REPEAT, signal.pthread_kill, repeat).start()

        former = {number: signal.signal(number, self.stop) for number in _NUMBERS}
        sys.unraisablehook = hook
        try:
            with self._only_interrupted():
                yield
        finally:
            sys.unraisablehook = former_hook
            for number, handler in former.items():
                signal.signal(number, handler)
            if self._unwound is not None:
                self._unwound.set()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block, only record the first signal; the block checks `signal_number` itself.

        Several blocks may be open, and end in any order: one for each run that a process trains together with others.
        """
        self._deferred += 1
        try:
            if self._deferred == 1:
                self._tell(True)
            yield
        finally:
            self._deferred -= 1
            if self._deferred == 0:
                self._tell(False)

    @contextlib.contextmanager
    def working_on(self, work: str) -> Iterator[None]:
        """Inside the block, the message about a signal names this work."""
        former, self.work = self.work, work
        try:
            yield
        finally:
            self.work = former

    @contextlib.contextmanager
    def at_once(self, what_now: str = CONTINUES) -> Iterator[None]:
        """Inside the block, a signal raises Interrupted, also within `deferred()`, and if it came before the block.

        what_now: the sentence on how to continue.
        """
        former, self._what_now = self._what_now, what_now
        self._at_once += 1
        try:
            if self.signal_number is not None:
                raise self.interrupted(what_now)
            with self._only_interrupted():
                yield
        finally:
            self._at_once -= 1
            self._what_now = former

    @contextlib.contextmanager
    def _only_interrupted(self) -> Iterator[None]:
        """Raise Interrupted in place of an error that it caused, such as by cutting off the end of a `with` block."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Interrupted) and _came_of_signal(error):
                raise self.interrupted(self._what_now) from None
            raise

    def interrupted(self, what_now: str) -> Interrupted:
        """Return the exception for the signal that came."""
        number = self.signal_number or signal.SIGTERM
        work = f" in {self.work}" if self.work else ""
        return Interrupted(f"Stopped by {signal.Signals(number).name}{work}. {what_now}", number)

    def stop(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal, or act as if it had come."""
        first = self.signal_number is None
        self.signal_number = number
        if self._deferred and not self._at_once and first:
            return
        stop = self.interrupted(self._what_now)
        if self._unwound is None and not self._deferred:
            self._unwound = threading.Event()
            threading.Thread(target=_end_unless, args=(self._unwound, stop), daemon=True).start()
        raise stop


def _came_of_signal(error: BaseException) -> bool:
    found: BaseException | None = error
    while found is not None and not isinstance(found, Interrupted):
        found = found.__cause__ or found.__context__
    return found is not None


def _end_unless(unwound: threading.Event, stop: Interrupted) -> None:
    """End the process if the exception has not ended the work in time: code of others may have caught it."""
    if not unwound.wait(_SECONDS_TO_UNWIND):
        with contextlib.suppress(OSError):
            os.write(2, f"open_prune: {stop}\n".encode())
        os._exit(stop.exit_code)


def end(exit_code: int) -> int:
    """Prepare the exit of a process whose work is done; return the exit code.

    From now on, SIGINT and SIGTERM end it silently. After a signal, it ends here: shutting torch down takes half a
    second.
    """
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    if exit_code in {128 + number for number in _NUMBERS}:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)
    return exit_code


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM for this process inside the block; processes that it starts there inherit that."""
    from multiprocessing import resource_tracker  # not in every command

    resource_tracker.ensure_running()  # started in the block, it would unblock them
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def unblock() -> None:
    """Unblock SIGINT and SIGTERM for this process, which was started in `blocked()`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)
