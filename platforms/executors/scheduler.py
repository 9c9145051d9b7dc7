"""The interface of schedulers, which submit, show and cancel jobs. `docs/executors.md` has an example."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.errors import EnvironmentFailure, UsageError
from foundations.plugins.users_code import article, mistake
from foundations.registry import Registered
from platforms.executors.task import Task

_ANSWER_SECONDS = 60
PHASES = ("waiting", "stuck", "running", "ended")
METHODS = ("open", "submit", "states", "cancel", "slots", "wait", "how_to_look", "close")


@dataclass(frozen=True)
class JobState:
    """State of a job according to its scheduler."""

    phase: str
    """waiting, stuck (it waits and will never start, so the executor cancels it), running or ended."""
    reason: str = ""
    """Reason for its wait or end, in a few words."""
    exit_code: int | None = None
    """For a job that has ended and will leave no record: 1 to 127 if it must not start again; negative, the number of
    the signal that killed it, if it must. With None, the executor waits for the record, and starts the job again if
    there is none."""


class Scheduler(ABC):
    """Submits jobs to a cluster. `ClusterExecutor` does the rest: groups, records, stops and patience.

    Its constructor gets the hyperparameters of its executor, and does nothing else: `watch` makes one to see the queue.
    """

    commands: Sequence[str] = ()
    """The programs that it needs on this machine."""
    takes_waiting_jobs: bool = False
    """Whether it takes jobs that wait for others, and starts a job when those have succeeded."""
    largest_array: int = 1
    """The most tasks of one call of `submit`."""
    max_jobs: int = 1000
    """The most jobs in the queue at once; the others are submitted as these end."""
    threads: int = 1
    """CPU threads of a job."""
    seconds: float = 0.0
    """Seconds after which a job is asked to end; it writes its checkpoint and is submitted again. 0: none."""
    poll_seconds: float = 15.0
    """Seconds between two calls of `states`."""
    patience_seconds: float = 30.0
    """Seconds to wait for the record of an ended job (files of other nodes appear late), and after a refusal."""

    @property
    def name(self) -> str:
        """The scheduler's name for people: that of the class."""
        return type(self).__name__

    def open(self, records: Path) -> None:
        """Prepare for submissions. Raises: EnvironmentFailure if the scheduler cannot be used here.

        records: a folder for files, on a file system that all nodes share.
        """

    @abstractmethod
    def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> Sequence[str]:
        """Submit a job for each task, and return their ids, in this order.

        after: the ids of jobs that must have succeeded before these start; empty unless `takes_waiting_jobs`.
        Raises: EnvironmentFailure if the scheduler refuses them. If it has other jobs of this executor, they are
        submitted again later; otherwise the error ends the command.
        """

    @abstractmethod
    def states(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        """Return the states of jobs by id, without those that the scheduler has forgotten.

        Raises: EnvironmentFailure if the scheduler does not answer now; it is asked again later.
        """

    @abstractmethod
    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel jobs that wait in the queue, and ignore jobs that have ended. Raises: EnvironmentFailure."""

    def slots(self, running: int) -> int:
        """Return the number of jobs that run at the same time, for estimates. running: the number that runs now."""
        return running

    def wait(self, seconds: float) -> None:
        """Wait until a job may have ended, at most some seconds."""
        time.sleep(seconds)

    def how_to_look(self) -> str:
        """Return instructions for watching jobs that outlive this process; empty if they end with it."""
        return f"The jobs stay with {self.name}."

    def close(self) -> None:
        """Release all resources."""

    @staticmethod
    def output_of(*command: str, stdin: str = "", exit_codes: Collection[int] = (0,)) -> str:
        """Run a command, and return its standard output.

        Raises: EnvironmentFailure with the last line of its errors, if its exit code is not one of `exit_codes`.
        """
        try:
            done = subprocess.run(
                command,
                input=stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_ANSWER_SECONDS,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentFailure(f"{command[0]} does not run: {error}") from error
        if done.returncode not in exit_codes:
            lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise EnvironmentFailure(f"{command[0]} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout


def check_attributes(scheduler: Scheduler) -> None:
    """Check the numbers, names and switches that a scheduler gives. Raises: UsageError."""
    for names, is_valid, words in _ATTRIBUTES:
        for name in names:
            value = getattr(scheduler, name)
            if not is_valid(value):
                raise UsageError(f"{name} of the scheduler {scheduler.name} is {value!r}; it must be {words}.")


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


_ATTRIBUTES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("largest_array", "max_jobs", "threads"), lambda value: type(value) is int and value >= 1, "an int of at least 1"),
    (
        ("seconds", "poll_seconds", "patience_seconds"),
        lambda value: type(value) in (int, float) and value >= 0,
        "a number of at least 0",
    ),
    (("takes_waiting_jobs",), lambda value: isinstance(value, bool), "True or False"),
    (("commands",), _are_names, "a tuple of names"),
)
"""Attributes, whether a value of them is valid, and a description of the valid ones."""


def checked_ids(scheduler: Scheduler, kind: Registered, ids: object, count: int) -> list[str]:
    """Return the ids that `submit` returned. Raises: PluginError unless there is one for each task."""
    found = list(ids) if isinstance(ids, Sequence) and not isinstance(ids, str) else []
    if len(found) != count or not all(isinstance(each, str) and each.strip() for each in found):
        must = f"it must return {count} id{'s' if count > 1 else ''} (str), one for each task."
        raise mistake(scheduler.submit, kind, f"returned {_shown(ids)}; {must}")
    return [each.strip() for each in found]


def states_of(scheduler: Scheduler, kind: Registered, jobs: Sequence[str]) -> dict[str, JobState] | None:
    """Return the states of the jobs that a scheduler knows, by id; None if it does not answer. Raises: PluginError."""
    try:
        states: object = scheduler.states(jobs)
    except EnvironmentFailure:
        return None
    if not isinstance(states, Mapping):
        raise mistake(scheduler.states, kind, f"returned {_shown(states)}; it must return a JobState for each id.")
    known = {job: states[job] for job in jobs if job in states}
    for job, state in known.items():
        if not isinstance(state, JobState):
            raise mistake(scheduler.states, kind, f"returned {_shown(state)} for {job}; it must return a JobState.")
        if state.phase not in PHASES:
            reason = f"returned the phase '{state.phase}' for {job}; choose from {', '.join(PHASES)}."
            raise mistake(scheduler.states, kind, reason)
        words: object = state.reason
        if not isinstance(words, str):
            reason = f"returned the reason {words!r} for {job}; it must be a str."
            raise mistake(scheduler.states, kind, reason)
        if state.exit_code is not None and type(state.exit_code) is not int:
            reason = f"returned the exit code {state.exit_code!r} for {job}; it must be an int or None."
            raise mistake(scheduler.states, kind, reason)
    return known


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | list | tuple) and len(repr(value)) < 60 else article(value)
