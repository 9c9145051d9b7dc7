"""Reporters of jobs, which print nothing themselves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from foundations.storage.locks import Holder


@runtime_checkable
class Reporter(Protocol):
    """Receives what a job reports; `cli` shows it, a test collects it."""

    def say(self, line: str) -> None:
        """Take a line for people."""

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Take the progress of a long operation; `done == total` ends it. Called often: must be cheap."""


class NullReporter:
    """A Reporter that reports nothing."""

    def say(self, line: str) -> None:
        """Drop the line."""

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Drop the progress."""


class NotedProgress:
    """A Reporter that also notes the progress beside the lock of the run, where other processes can read it."""

    def __init__(self, reporter: Reporter, holder: Holder, seconds: float = 2.0) -> None:
        """Report to another reporter as well. seconds: the least time between two notes.

        The first one comes a tenth of that after the beginning, so a tiny run writes none.
        """
        self._reporter, self._holder, self._seconds = reporter, holder, seconds
        self._began: tuple[str, int, float] | None = None
        self._last = time.monotonic() - 0.9 * seconds

    def say(self, line: str) -> None:
        """Pass the line on."""
        self._reporter.say(line)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Pass the progress on, and note it now and then, with the speed since the operation began."""
        self._reporter.progress(what, done, total, unit)
        now = time.monotonic()
        if self._began is None or self._began[0] != what:
            self._began = (what, done, now)
        if now - self._last >= self._seconds:
            self._last = now
            _, first, since = self._began
            speed = (done - first) / (now - since) if now > since else 0.0
            self._holder.note({"doing": what, "done": done, "total": total, "unit": unit, "speed": speed})
