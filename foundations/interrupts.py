"""SIGINT and SIGTERM, turned into a clean stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from foundations.errors import Interrupted


class Interrupts:
    """Catches SIGINT and SIGTERM while `caught()` is active.

    Ordinarily a signal raises Interrupted at once: files are written whole or not at all, so nothing is left half done.
    Inside `deferred()` the first signal only sets `signal_number`, for a loop that wants to write its checkpoint first;
    a second one raises.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._deferred = 0
        """How many `deferred` blocks are open."""

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Install the handlers, in the main thread; restore the former ones at the end."""
        signals = (signal.SIGINT, signal.SIGTERM)
        former = {number: signal.signal(number, self._handle) for number in signals}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside the block, only record the first signal; the block checks `signal_number` itself.

        Several blocks may be open, and end in any order: the trainings that one process trains together.
        """
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def stop(self, number: int) -> None:
        """Act as if a signal had come."""
        self._handle(number, None)

    def interrupted(self, what_now: str) -> Interrupted:
        """Return the exception for the signal that came."""
        number = self.signal_number or signal.SIGTERM
        return Interrupted(f"Stopped by {signal.Signals(number).name}. {what_now}", number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first = self.signal_number is None
        self.signal_number = number
        if not (self._deferred and first):
            raise self.interrupted("The same command continues from what was kept.")
