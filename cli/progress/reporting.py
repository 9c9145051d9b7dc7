"""Reporters of jobs for a terminal, for a file, and for quiet commands."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cli.display.plain_table import printable_lines
from foundations.reporter import NullReporter, Reporter

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_MOVES = 0.1


@contextlib.contextmanager
def reporting(quiet: bool, on_closed: Callable[[], None] = lambda: None) -> Iterator[Reporter]:
    """Yield the reporter that suits standard output; remove its progress bar at the end.

    on_closed: called when standard output is a closed pipe.
    """
    if quiet or not sys.stdout.isatty():
        yield NullReporter() if quiet else PlainReporter(on_closed)
        return
    reporter = TerminalReporter()
    try:
        yield reporter
    finally:
        reporter.close()


class PlainReporter:
    """Prints each line, and a line of progress every ten seconds. Failing to print a line does not fail the job."""

    def __init__(self, on_closed: Callable[[], None]) -> None:
        self._last = time.monotonic()
        self._on_closed = on_closed

    def say(self, line: str) -> None:
        """Print the line."""
        try:
            print(printable_lines(line), flush=True)
        except BrokenPipeError:
            self._on_closed()
        except OSError:  # a full disk, or a terminal that is gone: log.txt has the line, too
            pass

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Print the progress of the operation, every ten seconds."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self.say(f"{what}: {done} of {total} {unit}")


class TerminalReporter:
    """Prints each line above a progress bar that shows speed and time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._what = ""
        self._last = 0.0

    def say(self, line: str) -> None:
        """Print the line."""
        if self._bar is None:
            print(printable_lines(line), flush=True)
        else:
            self._bar.console.print(printable_lines(line), markup=False, highlight=False, soft_wrap=True)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Update the progress bar of an operation, or start it."""
        if self._bar is None or self._what != what:
            self.close()
            self._begin(what, done, total, unit)
        now = time.monotonic()
        if self._bar is not None and now - self._last >= _SECONDS_BETWEEN_MOVES:
            self._last = now
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _begin(self, what: str, done: int, total: int, unit: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn

        class Speed(TextColumn):
            def render(self, task: Task) -> Text:
                speed = task.speed or 0.0
                return Text(f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.2f} {unit}/s" if speed else "")

        from rich.text import Text

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(""))
        self._bar = Progress(*columns, TimeRemainingColumn(compact=True), transient=True)
        self._bar.add_task(what, total=total, completed=done)
        self._bar.start()
        self._what = what
