"""The runs that wait in the queues of schedulers, from the records of submitted jobs: for people on any machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platforms.executors.cluster import NOTES
from platforms.executors.registry import EXECUTORS, make_scheduler
from platforms.executors.scheduler import states_of
from platforms.executors.task import record_of


@dataclass(frozen=True)
class QueuedRun:
    """A run whose job waits in the queue of a scheduler."""

    run: str
    """Its location."""
    job: str
    """The executor, and the job's id there: slurm:12_3."""
    reason: str
    """Reason for the wait, in the scheduler's words."""
    since: float
    """Time of submission, in seconds since 1970."""


def queued_runs(folder: Path) -> tuple[list[QueuedRun], list[str]]:
    """Return the runs that wait in queues, and a sentence about each queue that cannot be shown.

    folder: the folder of the executors' files, `<root>/.jobs`. Asks each scheduler once, if jobs have not ended.
    """
    found: list[QueuedRun] = []
    hidden: list[str] = []
    for name in sorted({notes.parent.parent.name for notes in folder.glob(f"*/*/{NOTES}")}):
        jobs = {str(note["number"]): note for note in _open_jobs(folder / name)}
        kind = EXECUTORS.find(name) if jobs and name in EXECUTORS else None
        if jobs and (kind is None or kind.scheduler is None):
            hidden.append(f"There is no executor '{name}' here, so runs that wait in its queue are not shown.")
        if kind is None or kind.scheduler is None:
            continue
        scheduler = make_scheduler(kind, kind.hparams())
        states = states_of(scheduler, kind, list(jobs))
        if states is None:
            hidden.append(f"{scheduler.name} does not answer, so runs that wait in its queue are not shown.")
            continue
        found += [
            QueuedRun(str(run), f"{name}:{number}", state.reason, float(jobs[number]["at"]))
            for number, state in states.items()
            if state.phase in ("waiting", "stuck")
            for run in jobs[number]["runs"]
        ]
    return found, hidden


def _open_jobs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of jobs without an exit code. Skips unreadable lines, which are half written."""
    for notes in sorted(folder.glob(f"*/{NOTES}")):
        try:
            lines: Sequence[str] = notes.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                note = json.loads(line)
                is_open = not record_of(notes.parent, str(note["key"])).exists()
                is_open = is_open and bool(note["runs"]) and float(note["at"]) > 0 and "number" in note
            except (KeyError, TypeError, ValueError):
                continue
            if is_open:
                yield note
