"""Displays of a dispatch of many runs: a live table on a terminal, plain lines in a file."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.display.plain_table import duration
from cli.display.summaries import measured
from cli.progress.estimate import Estimate
from foundations.plan import PlannedRun
from foundations.storage.locks import read_holder
from foundations.storage.store import short_address
from foundations.storage.sweeps import RunningSweep
from platforms.dispatch import Dispatch, Item, Observer, State

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_SECONDS_BETWEEN_LINES = 20.0
_SECONDS_BETWEEN_NOTES = 2.0
_SHOWN_STEPS = 4
_SHOWN_ROWS = 24


@dataclass
class QuietDisplay:
    """Shows failures only, and notes the progress of the whole dispatch for `watch`."""

    labels: Mapping[PlannedRun, str]
    total: int
    """The number of runs, done ones included."""
    estimate: Estimate
    at_once: int
    """The number of jobs at once."""
    sweep: RunningSweep
    _noted: float = -math.inf

    def changed(self, item: Item) -> None:
        """Print a failure."""
        if item.state is State.FAILED:
            self.say(f"failed   {self.name(item)}: {item.reason}")

    def tick(self, dispatch: Dispatch) -> None:
        """Note the progress."""
        now = time.monotonic()
        if now - self._noted >= _SECONDS_BETWEEN_NOTES:
            self._noted = now
            counts = {state.value: len(dispatch.in_state(state)) for state in State}
            queued = len(dispatch.queued())  # submitted, and not started
            counts[State.RUNNING.value] -= queued
            counts[State.WAITING.value] += queued
            self.sweep.note(**counts)

    def say(self, line: str) -> None:
        """Print a line for people."""
        print(line, flush=True)

    def name(self, item: Item) -> str:
        """Return the address and label of a run, for people."""
        return f"{short_address(item.planned.run)} {self.labels.get(item.planned, '')}".rstrip()

    def totals(self, dispatch: Dispatch) -> str:
        """Return the progress of the whole dispatch, in a line."""
        open_items = dispatch.in_state(State.WAITING, State.RUNNING, State.ELSEWHERE)
        queued, elsewhere = len(dispatch.queued()), len(dispatch.in_state(State.ELSEWHERE))
        running = len(dispatch.in_state(State.RUNNING)) - queued
        failed = len(dispatch.in_state(State.FAILED))
        parts = [f"{self.total - len(open_items) - failed} of {self.total} done", f"{running} running"]
        parts += [f"{queued} waiting in the queue"] if queued else []
        parts += [f"{elsewhere} in other processes"] if elsewhere else []
        parts += [f"{failed} failed"] if failed else []
        left = self.estimate.seconds((item.planned for item in open_items), self.at_once)
        parts += [f"about {duration(left)} left"] if left else []
        return ", ".join(parts)


class PlainDisplay(QuietDisplay):
    """Prints a line for each run that ends, and the progress of the whole dispatch every 20 seconds."""

    _last = 0.0

    def changed(self, item: Item) -> None:
        """Print the outcome of a run."""
        if item.state is State.DONE:
            self.estimate.add(item.planned)
            manifest = item.planned.manifest
            headline = item.planned.desc.headline
            found = measured(headline, manifest.results) if manifest else ""
            took = duration(time.monotonic() - item.since) if item.computed else "by another process"
            self.say(f"{'done' if item.planned.manifest else 'ready':<8} {self.name(item)}  {found}  {took}")
        else:
            super().changed(item)

    def tick(self, dispatch: Dispatch) -> None:
        """Print the progress every 20 seconds."""
        super().tick(dispatch)
        now = time.monotonic()
        self._last = self._last or now
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self.say(self.totals(dispatch) + _steps(dispatch))


class LiveDisplay(PlainDisplay):
    """Shows a table of the runs in progress, below the lines of finished runs."""

    live: Live

    def tick(self, dispatch: Dispatch) -> None:
        """Draw the table again."""
        QuietDisplay.tick(self, dispatch)
        self.live.update(self._drawn(dispatch), refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _drawn(self, dispatch: Dispatch) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        made = Table("ADDRESS", "RUN", "STEP", "SPEED", "TIME", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for item in dispatch.in_state(State.RUNNING, State.ELSEWHERE)[:_SHOWN_ROWS]:
            facts = read_holder(item.planned.run.lock_path) or {}
            elapsed = duration(time.monotonic() - item.since) if item.state is State.RUNNING else str(facts.get("host"))
            cells = (short_address(item.planned.run), self.labels.get(item.planned, ""), *progress_of(facts), elapsed)
            made.add_row(*(Text(cell, overflow="ellipsis", no_wrap=True) for cell in cells))
        made.caption, made.caption_justify = self.totals(dispatch), "left"
        return made


def _steps(dispatch: Dispatch) -> str:
    """Return the progress of some runs, as text, such as `: prune 12 of 100`."""
    holders = (
        read_holder(item.planned.run.lock_path) or {} for item in dispatch.in_state(State.RUNNING)[:_SHOWN_STEPS]
    )
    steps = [" ".join(filter(None, progress_of(facts))) for facts in holders]
    return ": " + "; ".join(filter(None, steps)) if any(steps) else ""


def progress_of(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Return the progress and speed of a run, from the facts that its process notes beside its lock."""
    if "done" not in facts:
        return "", ""
    unit, speed = str(facts.get("unit", "")), float(facts.get("speed") or 0.0)
    step = f"{facts.get('doing')} {facts['done']} of {facts.get('total')}"
    return step, f"{speed:.3g} {unit}/s" if speed else ""


@contextlib.contextmanager
def display(
    labels: Mapping[PlannedRun, str], total: int, estimate: Estimate, at_once: int, sweep: RunningSweep, *, quiet: bool
) -> Iterator[Observer]:
    """Yield the display of a dispatch on standard output. total: the number of runs, done ones included."""
    if quiet or not sys.stdout.isatty():
        yield (QuietDisplay if quiet else PlainDisplay)(labels, total, estimate, at_once, sweep)
        return
    from rich.live import Live

    shown = LiveDisplay(labels, total, estimate, at_once, sweep)
    with Live(transient=True, auto_refresh=False) as shown.live:
        yield shown
