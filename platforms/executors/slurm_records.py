"""Records of the jobs submitted to Slurm, which show anybody the runs that wait in its queue."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platforms.executors import slurm_queue
from platforms.executors.executor import QUEUED, CommandJob
from platforms.executors.slurm_queue import JobState
from platforms.executors.slurm_task import record_of

_NOTES = "submitted.jsonl"


@dataclass(frozen=True)
class QueuedRun:
    """A run whose job waits in Slurm's queue."""

    run: str
    """Its location."""
    number: str
    """Number of the job, as in `squeue`."""
    state: JobState
    since: float
    """Time of submission, in seconds since 1970."""


def note_submitted(records: Path, jobs: Iterable[tuple[str, str, CommandJob]]) -> None:
    """Record jobs: their numbers, the names of their records, and the runs that they compute."""
    now = time.time()
    lines = [json.dumps({"number": n, "key": k, "runs": j.runs or (j.name,), "at": now}) for n, k, j in jobs]
    with (records / _NOTES).open("a") as notes:
        notes.write("".join(f"{line}\n" for line in lines))


def queued_runs(folder: Path) -> list[QueuedRun] | None:
    """Return the runs that wait in Slurm's queue, or None if Slurm does not answer.

    folder: the folder of the executors' files, `<root>/.jobs`. Asks Slurm once, and only if jobs have not ended.
    """
    jobs = {str(note["number"]): note for note in _open_jobs(folder)}
    if not jobs:
        return []
    states = slurm_queue.states_of(getpass.getuser(), list(jobs))
    if states is None:
        return None
    return [
        QueuedRun(str(run), number, state, float(jobs[number]["at"]))
        for number, state in states.items()
        if state.in_a_word in QUEUED
        for run in jobs[number]["runs"]
    ]


def _open_jobs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of jobs without an exit code. Skips unreadable lines, which are half written."""
    for notes in sorted((folder / "slurm").glob(f"*/{_NOTES}")):
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
