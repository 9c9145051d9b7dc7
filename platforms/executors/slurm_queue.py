"""Queries of Slurm's own commands about jobs, many jobs a query."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_ASK_SECONDS = 60
NOT_ENDED: Final = frozenset(
    {
        *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"),
        *("STAGE_OUT", "COMPLETING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"),
    }
)
"""The states of jobs that may still run, or run again."""


@dataclass(frozen=True)
class JobState:
    """State of a job according to Slurm."""

    state: str
    """In Slurm's words: PENDING, RUNNING, COMPLETED, OUT_OF_MEMORY."""
    reason: str = ""
    """Reason for its wait or end, in Slurm's words."""

    @property
    def has_ended(self) -> bool:
        """Return whether it has ended for good."""
        return self.state not in NOT_ENDED

    @property
    def in_a_word(self) -> str:
        """Return the state for people."""
        if self.state == "PENDING" and "held" in self.reason.lower():
            return "held"
        return self.state.lower().replace("_", " ")


def states_of(user: str, jobs: Sequence[str]) -> dict[str, JobState] | None:
    """Return the states of jobs, by number, or None if Slurm does not answer now.

    jobs: numbers as `12` or, in an array, `12_3`. Jobs that Slurm has forgotten are omitted. One command asks for all
    jobs of the user: a list of many numbers makes a long command line, and fails as a whole if one job is gone.
    """
    answer = _answer("squeue", "--noheader", "--array", "--states=all", f"--user={user}", "--format=%i|%T|%r")
    if answer is None:
        return None
    wanted, found = set(jobs), {}
    for line in answer.splitlines():
        number, state, reason = line.strip().split("|", 2)
        if number in wanted:
            found[number] = JobState(state, "" if reason == "None" else reason)
    return found


def recorded_states(jobs: Sequence[str]) -> dict[str, JobState]:
    """Return the states of jobs that squeue has forgotten, from Slurm's accounting if there is one."""
    found: dict[str, JobState] = {}
    if jobs:
        columns = "--format=JobID,State"
        answer = _answer("sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={','.join(jobs)}", columns)
        for line in (answer or "").splitlines():
            number, state = line.split("|")
            found[number] = JobState(state.split()[0])  # "CANCELLED by 1000"
    return found


def largest_array() -> int:
    """Return the largest number of jobs in an array."""
    answer = re.search(r"^MaxArraySize\s*=\s*(\d+)", _answer("scontrol", "show", "config") or "", flags=re.MULTILINE)
    return max(1, int(answer[1]) - 1) if answer else 1000


def cancel(jobs: Iterable[str], *options: str) -> None:
    """Cancel jobs, or send them a signal. Ignores jobs that have ended."""
    jobs = list(jobs)
    for start in range(0, len(jobs), 500):
        _answer("scancel", "--quiet", *options, *jobs[start : start + 500])


def _answer(*command: str) -> str | None:
    """Run a command and return its output, or None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
