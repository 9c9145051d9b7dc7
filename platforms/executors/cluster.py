"""The executor for all schedulers of clusters: it queues, groups and watches jobs, and a `Scheduler` submits them.

Each job records its exit code in a file. From time to time, the executor asks the scheduler for jobs that ended without
a record: nodes fail, and people cancel jobs. A file asks all jobs to write their checkpoints and end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from foundations.errors import Busy, EnvironmentFailure
from foundations.registry import Registered
from platforms.executors.executor import CommandJob, Ended, Executor, Program, with_threads
from platforms.executors.scheduler import JobState, Scheduler, check_attributes, checked_ids, states_of
from platforms.executors.task import STOP, STOPPED, Task, record_of

NOTES = "submitted.jsonl"
"""A file in each folder of records, with a line for each job: its id, the name of its record, its runs, the time."""
_LOST = "a job that it comes after did not end well"  # so the submitting process decides, as for a busy run
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.05, 0.5
"""From one look at the records to the next: soon after something has changed, ever later while nothing does."""


@dataclass
class _Submitted:
    """A job that the scheduler has."""

    job: CommandJob
    key: str
    """The name of its record."""
    number: str
    state: JobState = JobState("waiting")
    odd_since: float | None = None
    """Time at which it was first seen without a record after its end, or was missing from the scheduler's answer."""
    code: int | None = None
    """Its exit code, if its reason is still unknown."""


class ClusterExecutor(Executor):
    """Gives jobs to a scheduler, those with the same dependencies together."""

    def __init__(self, kind: Registered, scheduler: Scheduler, program: Program) -> None:
        """Submit nothing yet. Raises: EnvironmentFailure if the scheduler cannot be used here."""
        self._kind, self._scheduler, self._program = kind, scheduler, program
        self.takes_waiting_jobs = scheduler.takes_waiting_jobs
        when = time.strftime("%Y%m%d-%H%M%S")
        self._records = program.folder.absolute() / kind.spelling / f"{when}-{socket.gethostname()}-{os.getpid()}"
        scheduler.open(self._records)
        check_attributes(scheduler)
        if not all(map(shutil.which, scheduler.commands)):
            commands = ", ".join(scheduler.commands)
            raise EnvironmentFailure(f"{scheduler.name}'s commands ({commands}) are not on this machine.")
        self._records.mkdir(parents=True, exist_ok=True)
        self._outlives = bool(scheduler.how_to_look())
        self._waiting: list[CommandJob] = []
        self._jobs: dict[str, _Submitted] = {}
        self._exit_codes: dict[str, int] = {}
        self._count, self._polled, self._refused_until = 0, 0.0, 0.0
        self._pause = _FIRST_LOOK_SECONDS
        self._is_stopping = self._is_untidy = False

    def has_room(self) -> bool:
        """Return whether the queue takes another job."""
        return len(self._jobs) + len(self._waiting) < self._scheduler.max_jobs

    def submit(self, job: CommandJob) -> None:
        """Take a job. The scheduler gets it at the next call of `ended` or `close`, together with others."""
        self._exit_codes.pop(job.name, None)
        self._waiting.append(job)

    def ended(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended, waiting up to some seconds for one. Raises: EnvironmentFailure."""
        deadline = time.monotonic() + seconds
        while True:
            found = self._dropped()
            self._flush()
            found += self._recorded()
            if time.monotonic() - self._polled >= self._scheduler.poll_seconds:
                found += self._poll()
            if found:
                self._pause = _FIRST_LOOK_SECONDS
            if found or time.monotonic() >= deadline:
                return found
            self._scheduler.wait(min(self._pause, max(0.0, deadline - time.monotonic())))
            self._pause = min(2 * self._pause, _LOOK_SECONDS)

    def stop(self) -> None:
        """Cancel jobs that wait. Running ones see a file, and ask their commands to end."""
        self._is_stopping = True
        (self._records / STOP).touch()
        self._look()
        self._cancel("waiting")
        self._polled = 0.0

    def slots(self) -> int:
        """Return the number of jobs that run at once, at least 1."""
        running = sum(each.state.phase == "running" for each in self._jobs.values())
        return max(1, self._scheduler.slots(running))

    def queued(self) -> set[str]:
        """Return the names of the jobs that wait."""
        waiting = {name for name, each in self._jobs.items() if each.state.phase in ("waiting", "stuck")}
        return waiting | {job.name for job in self._waiting}

    def how_to_look(self) -> str:
        """Return the scheduler's instructions."""
        return self._scheduler.how_to_look()

    def close(self) -> None:
        """Submit the waiting jobs, and let jobs go on. If all have succeeded, remove the files that they needed."""
        if self._outlives:
            self._flush()
        self._scheduler.close()
        if not self._outlives or not (self._jobs or self._is_untidy):
            shutil.rmtree(self._records, ignore_errors=True)

    # Submitting.

    def _flush(self) -> None:
        """Submit the waiting jobs, those with the same dependencies at once.

        A queue that is full refuses jobs; so if it has other jobs of this executor, these are submitted again later.
        """
        if self._is_stopping or time.monotonic() < self._refused_until:
            return
        waiting, self._waiting = self._waiting, []
        while waiting:
            names = {job.name for job in waiting}
            ready = [job for job in waiting if names.isdisjoint(job.after)]
            group = [job for job in ready if job.after == ready[0].after][: self._scheduler.largest_array]
            try:
                self._submit_group(group)
            except EnvironmentFailure:
                if not self._jobs:
                    raise
                self._refused_until = time.monotonic() + self._scheduler.patience_seconds
                self._waiting = waiting
                return
            waiting = [job for job in waiting if job.name not in self._jobs]

    def _submit_group(self, group: Sequence[CommandJob]) -> None:
        after = [self._jobs[name].number for name in group[0].after if name in self._jobs]
        threads, seconds = self._scheduler.threads, self._scheduler.seconds
        tasks = [
            Task(
                [*self._program.command, *with_threads(job, threads)],
                str(job.output.absolute()),
                str(self._records),
                f"{self._count + place:06d}",
                seconds,
                job.name,
            )
            for place, job in enumerate(group)
        ]
        numbers = checked_ids(self._scheduler, self._kind, self._scheduler.submit(tasks, after), len(tasks))
        self._count += len(group)
        for job, task, number in zip(group, tasks, numbers, strict=True):
            self._jobs[job.name] = _Submitted(job, task.key, number)
        if self._outlives:
            self._note(group)

    def _note(self, group: Sequence[CommandJob]) -> None:
        """Record submitted jobs for everybody who watches the queue."""
        with (self._records / NOTES).open("a") as notes:
            for job in group:
                each = self._jobs[job.name]
                facts = {"number": each.number, "key": each.key, "runs": job.runs or (job.name,), "at": time.time()}
                notes.write(f"{json.dumps(facts)}\n")

    # Watching.

    def _dropped(self) -> list[Ended]:
        """Remove the jobs that are not submitted, and return them: all after a stop, and dependents of failed ones."""
        lost = [job for job in self._waiting if self._is_stopping or self._has_lost(job)]
        self._waiting = [job for job in self._waiting if job not in lost]
        how = (STOPPED, "it was not started") if self._is_stopping else (Busy.exit_code, _LOST)
        return [self._end(job, *how) for job in lost]

    def _recorded(self) -> list[Ended]:
        """Return the jobs that have recorded their exit codes since the last look."""
        if not self._jobs:
            return []
        names = {entry.name for entry in os.scandir(self._records)}
        found = []
        for each in list(self._jobs.values()):
            path = record_of(self._records, each.key)
            if path.name in names and each.code is None:
                each.code = int(path.read_text())
                if each.code < 0:  # killed: the scheduler may know why, a little later
                    each.odd_since, self._polled = time.monotonic(), 0.0
                else:
                    found.append(self._end(each.job, each.code))
        return found

    def _look(self) -> bool:
        """Ask the scheduler for the states of all jobs, and return whether it answers."""
        self._polled = time.monotonic()
        states = states_of(self._scheduler, self._kind, [each.number for each in self._jobs.values()])
        if states is None:
            return False
        for each in self._jobs.values():
            forgotten = JobState("ended", f"{self._scheduler.name} knows nothing of it any more")
            each.state = states.get(each.number, forgotten)
        return True

    def _poll(self) -> list[Ended]:
        """Return the jobs that ended according to the scheduler and that will leave no record themselves."""
        if not self._jobs or not self._look():
            return []
        self._cancel("stuck")
        found = []
        for each in list(self._jobs.values()):
            has_ended = each.state.phase == "ended"
            if not has_ended and each.code is None:
                each.odd_since = None
                continue
            each.odd_since = each.odd_since or self._polled
            is_known = each.code is not None or each.state.exit_code is not None
            if any(name in self._jobs for name in each.job.after):
                is_known = False  # it may have been cancelled because of a job whose record is still to come
            is_late = self._polled - each.odd_since > self._scheduler.patience_seconds
            if is_late or (has_ended and (is_known or self._is_stopping)):
                found.append(self._explained(each))
        return found

    def _cancel(self, phase: str) -> None:
        numbers = [each.number for each in self._jobs.values() if each.state.phase == phase]
        with contextlib.suppress(EnvironmentFailure):  # a job that starts nevertheless finds the file that stops it
            if numbers:
                self._scheduler.cancel(numbers)

    def _explained(self, each: _Submitted) -> Ended:
        """Return the outcome of a job that was killed, or left no record."""
        state = each.state
        if each.code is not None:
            return self._end(each.job, each.code, state.reason if state.exit_code is not None else "")
        if self._is_stopping:
            return self._end(each.job, STOPPED, "it was cancelled before it started")
        if self._has_lost(each.job):
            return self._end(each.job, Busy.exit_code, _LOST)
        return self._end(each.job, -9 if state.exit_code is None else state.exit_code, state.reason)

    def _has_lost(self, job: CommandJob) -> bool:
        """Return whether a job that it comes after has failed."""
        return any(self._exit_codes.get(name) for name in job.after)

    def _end(self, job: CommandJob, code: int, reason: str = "") -> Ended:
        self._jobs.pop(job.name, None)
        self._exit_codes[job.name] = code
        self._is_untidy |= code != 0
        return Ended(job.name, code, reason)
