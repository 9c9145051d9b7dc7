"""How jobs report to people: they are passed a Reporter and print nothing themselves."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


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
