"""The commands `watch` and `stop`, which show the work in progress on a root and stop it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.display.plain_table import duration, table
from cli.progress.sweep_display import progress_of
from cli.request.flags import command
from cli.request.folder_flags import RootHparams
from foundations.description.address import Location
from foundations.description.hparams import hparam
from foundations.environment import Environment
from foundations.errors import Interrupted, UsageError
from foundations.storage.locks import is_held, read_holder
from foundations.storage.root import alone
from foundations.storage.store import all_runs
from foundations.storage.sweeps import ask_to_stop, known_sweeps
from platforms.executors.queue import QueuedRun, queued_runs

_JOBS = ".jobs"
"""The folder of the executors, under the root."""
_QUEUE_SECONDS = 15.0
"""Interval between queries to schedulers."""
_WHAT, _HOST = 32, 16
"""The most characters of a sweep's title or of the reason of a wait, and of a machine's name."""
_SILENT_SECONDS = 300.0
"""A process without a note for this long may hang, or its machine may be gone."""


@dataclass(frozen=True, kw_only=True)
class WatchHparams(RootHparams):
    """Location of the runs, and display."""

    once: bool = hparam(False)
    """Print the table once and stop; on a terminal it is redrawn every two seconds until Ctrl-C."""


@command(watch=WatchHparams)
def watch(environment: Environment, watch: WatchHparams) -> int:
    """Show the runs and sweeps that processes work on, anywhere on the root, and runs that wait in a queue."""
    root = watch.root_in(environment)
    if watch.once or not sys.stdout.isatty():
        print(drawn(root, *queued_runs(root / _JOBS)))
        return 0
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    try:
        queue, asked = queued_runs(root / _JOBS), time.monotonic()
        with Live(console=Console(), auto_refresh=False, screen=True) as live:
            while True:
                if time.monotonic() - asked >= _QUEUE_SECONDS:
                    queue, asked = queued_runs(root / _JOBS), time.monotonic()
                live.update(Text(drawn(root, *queue), no_wrap=True), refresh=True)
                time.sleep(2)
    except Interrupted as stop:  # Ctrl-C leaves the display
        return stop.exit_code


@command(stop=RootHparams)
def stop(names: list[str], environment: Environment, stop: RootHparams) -> int:
    """Ask a sweep, or all, to write checkpoints and end. The same sweep again goes on from there."""
    if len(names) > 1:
        raise UsageError("stop takes one sweep, or none for all of them; `watch` lists them.")
    for name in ask_to_stop(stop.root_in(environment), *names):
        print(f"Asked {name} to stop. Its jobs write checkpoints first.")
    return 0


def drawn(root: Path, queue: Sequence[QueuedRun], hidden: Sequence[str]) -> str:
    """Return tables of the sweeps and runs that are running, were killed, or wait in the queue of a scheduler.

    hidden: sentences about queues that cannot be shown.
    """
    sweeps = [
        {
            "sweep": each.name,
            "is": "running" if each.is_alive else "killed",
            "what": _cut(str(each.facts.get("what", "")), _WHAT),
            **{state: str(each.facts.get(state, "")) for state in ("done", "running", "waiting", "failed")},
        }
        for each in known_sweeps(root)
    ]
    parts = [*(table(rows, tuple(rows[0])) for rows in (sweeps, _run_rows(root, queue)) if rows), *hidden]
    return "\n\n".join(parts) or f"Nothing is being computed under {root}."


def _run_rows(root: Path, queue: Sequence[QueuedRun]) -> list[dict[str, str]]:
    """Return rows of the runs in progress, then of those that wait in a queue."""
    noted = {path.name for path in (root / ".locks").glob("*.holder")}
    rows, running = [], set()
    for run in all_runs(alone(root)) if noted else ():
        facts = read_holder(run.lock_path) if run.lock_path.with_suffix(".holder").name in noted else None
        if facts is None:
            continue
        running.add(str(run.location))
        step, speed = progress_of(facts)
        silent = time.time() - float(facts.get("at", 0))
        host = _cut(str(facts.get("host")), _HOST)
        rows.append(_row(run.location, _state(run.lock_path, silent), step, speed, facts, f"{host}:{facts.get('pid')}"))
    for each in queue:
        location = Location.parse(each.run)
        if location is not None and each.run not in running:
            why = f"({_cut(each.reason, _WHAT)})" if each.reason else ""
            rows.append(_row(location, "waiting", why, "", {"since": each.since}, each.job))
    return rows


def _row(location: Location, state: str, step: str, speed: str, facts: Mapping[str, Any], host: str) -> dict[str, str]:
    return {
        "address": f"{location.digest[:8]}/{location.replicate}",
        "run": location.name.removesuffix(f"_{location.digest}").removeprefix("branch_"),
        "is": state,
        "step": step,
        "speed": speed,
        "since": duration(max(0.0, time.time() - float(facts.get("since", 0)))),
        "host": host,
    }


def _cut(text: str, letters: int) -> str:
    """Shorten a text to a number of characters."""
    return text if len(text) <= letters else f"{text[: letters - 3]}..."


def _state(lock_path: Path, silent: float) -> str:
    if not is_held(lock_path):
        return "killed"
    return "running" if silent < _SILENT_SECONDS else f"silent for {duration(silent)}"
