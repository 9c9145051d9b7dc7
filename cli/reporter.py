"""Showing people what a job has to say: progress bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from typing import Any

_SECONDS_BETWEEN_LINES = 10.0


class PlainReporter:
    """Prints each line, and a line of progress now and then."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, line: str) -> None:
        """Print the line."""
        print(line, flush=True)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Print how far the operation is, every ten seconds."""
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            print(f"{what}: {done} of {total} {unit}", flush=True)


class TerminalReporter:
    """Prints each line above a progress bar."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._tqdm = tqdm
        self._bar: Any = None

    def say(self, line: str) -> None:
        """Print the line."""
        self._tqdm.write(line)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        """Move the bar, or begin one."""
        if self._bar is None or self._bar.desc != f"{what}: ":
            self.close()
            self._bar = self._tqdm(desc=what, total=total, unit=unit, initial=done, leave=False, file=sys.stdout)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
