"""`slurm`: jobs of a Slurm cluster, through submitit.

Jobs with the same dependencies are submitted together, as an array. A job records its exit code in a file. From time
to time, the executor asks Slurm for jobs that ended without a record: nodes fail, and people cancel jobs.
"""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundations.description.hparams import hparam
from foundations.errors import Busy, EnvironmentFailure
from foundations.program import INSTALLED, TOP
from platforms.executors import slurm_queue
from platforms.executors.executor import (
    CommandJob,
    Ended,
    Executor,
    ExecutorHparams,
    ExecutorKind,
    Program,
    with_threads,
)
from platforms.executors.slurm_queue import JobState
from platforms.executors.slurm_records import note_submitted
from platforms.executors.slurm_task import SlurmTask, record_of
from platforms.executors.stopping import STOP, STOPPED

_LOST = "a job that it comes after did not end well"  # so the submitting process decides, as for a busy run
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 30.0  # on shared file systems, files of other nodes appear late
_FULL_SECONDS = 30.0
_LIMIT = re.compile(r"QOSMax|AssocMax|AssocGrp|job submit limit|temporarily", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SlurmHparams(ExecutorHparams):
    """Jobs of a Slurm cluster."""

    slurm_partition: str | None = hparam(None)
    """Partition; by default the cluster's own."""
    slurm_time: int = hparam(120, at_least=1)
    """Minutes that Slurm grants a job at a time. A run that takes longer goes on from its checkpoint in the next."""
    slurm_grace: int = hparam(90, at_least=1)
    """Seconds before the end of that time at which a job writes its checkpoint and is queued again."""
    slurm_requeues: int = hparam(100, at_least=0)
    """Number of times that a job is requeued when its time is over."""
    slurm_memory: float | None = hparam(None, above=0)
    """Gigabytes of memory; by default the cluster's own."""
    slurm_cpus: int = hparam(2, at_least=1)
    """CPU cores, and threads, of a job."""
    slurm_gpus: int = hparam(0, at_least=0)
    """GPUs of a job."""
    slurm_constraint: str | None = hparam(None)
    """Features that a node must have, such as a100."""
    slurm_account: str | None = hparam(None)
    """Account that jobs are charged to."""
    slurm_qos: str | None = hparam(None)
    """Quality of service."""
    slurm_exclude: str | None = hparam(None)
    """Nodes that are not used, such as node[3-5]."""
    slurm_array_parallelism: int | None = hparam(None, at_least=1)
    """Number of jobs of an array that run at once; by default as many as there is room for."""
    slurm_max_jobs: int = hparam(1000, at_least=1)
    """Number of jobs in the queue at once; the others are submitted as these end."""
    slurm_setup: str | None = hparam(None)
    """A shell command that every job runs first, such as 'module load cuda'."""
    slurm_options: str | None = hparam(None)
    """Further options of sbatch, separated by spaces, such as 'reservation=papers mail-type=FAIL'."""
    slurm_poll_seconds: float = hparam(15.0, above=0)
    """Seconds between questions to Slurm about all jobs."""


@dataclass
class _Submitted:
    """A job that Slurm has."""

    job: CommandJob
    key: str
    """The name of its record."""
    number: str
    state: JobState = JobState("PENDING")
    odd_since: float | None = None
    """Time at which it was first seen without a record after its end, or was missing from Slurm's answer."""
    code: int | None = None
    """Its exit code, if its reason is still unknown."""


class Slurm(Executor):
    """Submits jobs to Slurm, which starts them in order, and restarts them after preemption."""

    takes_waiting_jobs = True

    def __init__(self, hparams: SlurmHparams, program: Program) -> None:
        """Submit nothing yet. Raises: EnvironmentFailure without submitit or Slurm's commands."""
        try:
            import submitit
        except ImportError as error:
            raise EnvironmentFailure(
                "The executor slurm needs submitit: pip install open_prune[slurm], or submitit alone."
            ) from error
        if not all(map(shutil.which, ("sbatch", "srun", "squeue", "scancel"))):
            raise EnvironmentFailure("Slurm's commands (sbatch, srun, squeue, scancel) are not on this machine.")
        self._hparams, self._program = hparams, program
        when = time.strftime("%Y%m%d-%H%M%S")
        self._records = program.folder.absolute() / "slurm" / f"{when}-{socket.gethostname()}-{os.getpid()}"
        self._records.mkdir(parents=True, exist_ok=True)
        self._submitit = submitit.SlurmExecutor(self._records, max_num_timeout=hparams.slurm_requeues)
        self._waiting: list[CommandJob] = []
        self._jobs: dict[str, _Submitted] = {}
        self._exit_codes: dict[str, int] = {}
        self._count, self._polled, self._full_until = 0, 0.0, 0.0
        self._largest_array = 0
        self._is_stopping = self._is_untidy = False

    def has_room(self) -> bool:
        """Return whether the queue takes another job."""
        return len(self._jobs) + len(self._waiting) < self._hparams.slurm_max_jobs

    def submit(self, job: CommandJob) -> None:
        """Take a job. Slurm gets it at the next call of `ended` or `close`, together with others."""
        self._exit_codes.pop(job.name, None)
        self._waiting.append(job)

    def ended(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended, waiting up to some seconds for one. Raises: EnvironmentFailure."""
        deadline = time.monotonic() + seconds
        while True:
            found = self._dropped()
            if not self._is_stopping:
                self._flush()
            found += self._recorded()
            if time.monotonic() - self._polled >= self._hparams.slurm_poll_seconds:
                found += self._poll()
            for each in found:
                self._exit_codes[each.name] = each.exit_code
                self._is_untidy |= each.exit_code != 0
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))

    def stop(self) -> None:
        """Cancel jobs that wait, and send SIGTERM to those that run."""
        self._is_stopping = True
        (self._records / STOP).touch()
        numbers = [each.number for each in self._jobs.values()]
        slurm_queue.cancel(numbers, "--state=PENDING")
        slurm_queue.cancel(numbers, "--state=RUNNING", "--signal=TERM")
        self._polled = 0.0

    def slots(self) -> int:
        """Return the number of jobs known to be running."""
        return max(1, sum(each.state.state == "RUNNING" for each in self._jobs.values()))

    def states(self) -> Mapping[str, str]:
        """Return Slurm's word for each job."""
        waiting = {job.name: "pending" for job in self._waiting}
        return {**waiting, **{name: each.state.in_a_word for name, each in self._jobs.items()}}

    def how_to_look(self) -> str:
        """Return Slurm's own commands."""
        return "The jobs stay with Slurm: `squeue --me` shows them, `scancel --me --name=open_prune` ends them."

    def close(self) -> None:
        """Submit the waiting jobs, and let jobs go on. If all have succeeded, remove the files that Slurm needed."""
        if self._waiting and not self._is_stopping:
            self._flush()
        if not self._jobs and not self._is_untidy:
            shutil.rmtree(self._records, ignore_errors=True)

    # Submitting.

    def _flush(self) -> None:
        """Submit the waiting jobs, those with the same dependencies as one array."""
        while self._waiting and time.monotonic() >= self._full_until:
            ready = [job for job in self._waiting if not {each.name for each in self._waiting} & set(job.after)]
            group = [job for job in ready if job.after == ready[0].after][: self._array_limit()]
            try:
                self._submit_group(group)
            except EnvironmentFailure as error:
                if not (self._jobs and _LIMIT.search(str(error))):
                    raise
                self._full_until = time.monotonic() + _FULL_SECONDS
                return
            names = {job.name for job in group}
            self._waiting = [job for job in self._waiting if job.name not in names]

    def _array_limit(self) -> int:
        if not self._largest_array:
            self._largest_array = slurm_queue.largest_array()
        return self._largest_array

    def _submit_group(self, group: Sequence[CommandJob]) -> None:
        after = [self._jobs[name].number for name in group[0].after if name in self._jobs]
        keys = [f"{self._count + place:06d}" for place in range(len(group))]
        tasks = [
            SlurmTask(
                [*self._program.command, *with_threads(job, self._hparams.slurm_cpus)],
                str(job.output.absolute()),
                str(self._records),
                key,
            )
            for job, key in zip(group, keys, strict=True)
        ]
        try:
            self._submitit.update_parameters(**self._parameters(after))
            with self._submitit.batch():
                submitted = [self._submitit.submit(task) for task in tasks]
        except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
            raise EnvironmentFailure(f"Slurm does not take the jobs: {_last_line(error)}") from error
        self._count += len(group)
        for job, key, made in zip(group, keys, submitted, strict=True):
            self._jobs[job.name] = _Submitted(job, key, made.job_id)
        note_submitted(
            self._records, [(made.job_id, key, job) for job, key, made in zip(group, keys, submitted, strict=True)]
        )

    def _parameters(self, after: Sequence[str]) -> dict[str, Any]:
        """Return submitit's parameters for the hyperparameters."""
        hparams = self._hparams
        further = [option.removeprefix("--").partition("=") for option in shlex.split(hparams.slurm_options or "")]
        needs_path = [] if INSTALLED else [f"export PYTHONPATH={shlex.quote(str(TOP))}${{PYTHONPATH:+:$PYTHONPATH}}"]
        return {
            "job_name": "open_prune",
            "partition": hparams.slurm_partition,
            "time": hparams.slurm_time,
            "signal_delay_s": hparams.slurm_grace,
            "mem": None if hparams.slurm_memory is None else f"{round(hparams.slurm_memory * 1024)}M",
            "cpus_per_task": hparams.slurm_cpus,
            "gpus_per_node": hparams.slurm_gpus or None,
            "constraint": hparams.slurm_constraint,
            "account": hparams.slurm_account,
            "qos": hparams.slurm_qos,
            "exclude": hparams.slurm_exclude,
            "array_parallelism": hparams.slurm_array_parallelism or 1_000_000,
            "dependency": f"afterok:{':'.join(after)}" if after else None,
            "setup": [*needs_path, *([hparams.slurm_setup] if hparams.slurm_setup else [])],
            "stderr_to_stdout": True,
            "srun_args": [f"--cpus-per-task={hparams.slurm_cpus}"],  # since 22.05, srun does not inherit it from sbatch
            "additional_parameters": {
                "requeue": True,
                "kill-on-invalid-dep": "yes",
                **{name: value or True for name, _, value in further},
            },
        }

    # Watching.

    def _dropped(self) -> list[Ended]:
        """Remove the jobs that Slurm must not get, and return them: all after a stop, and dependents of failed ones."""
        if self._is_stopping:
            dropped, self._waiting = self._waiting, []
            return [Ended(job.name, STOPPED, "it was not started") for job in dropped]
        lost = [job for job in self._waiting if any(self._exit_codes.get(name) for name in job.after)]
        self._waiting = [job for job in self._waiting if job not in lost]
        return [Ended(job.name, Busy.exit_code, _LOST) for job in lost]

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
                if each.code < 0:  # killed: Slurm may know why, a little later
                    each.odd_since, self._polled = time.monotonic(), 0.0
                else:
                    found.append(self._end(each, each.code))
        return found

    def _poll(self) -> list[Ended]:
        """Return the jobs that ended according to Slurm and that will leave no record themselves."""
        self._polled, now = time.monotonic(), time.monotonic()
        states = slurm_queue.states_of(getpass.getuser(), [each.number for each in self._jobs.values()])
        if states is None:
            return []
        missing = [each.number for each in self._jobs.values() if each.number not in states]
        states.update(slurm_queue.recorded_states(missing))
        found = []
        for each in list(self._jobs.values()):
            each.state = states.get(each.number, JobState("", "Slurm knows nothing of it any more"))
            if each.state.reason == "launch failed requeued held":
                slurm_queue.cancel([each.number])
            if not each.state.has_ended and each.code is None:
                each.odd_since = None
                continue
            each.odd_since = each.odd_since or now
            is_clear = each.code is not None or each.state.state not in ("", "COMPLETED", "FAILED")
            if (each.state.has_ended and is_clear) or now - each.odd_since > _PATIENCE_SECONDS:
                found.append(self._explained(each))
        return found

    def _explained(self, each: _Submitted) -> Ended:
        """Return the outcome of a job that was killed, or left no record."""
        state, killed = each.state.state, each.code if each.code is not None else -9
        lost = [name for name in each.job.after if self._exit_codes.get(name, 0) != 0]
        if state == "CANCELLED" and self._is_stopping:
            return self._end(each, STOPPED, "it was cancelled before it started")
        if state == "CANCELLED" and (lost or each.state.reason.startswith("Dependency")):
            return self._end(each, Busy.exit_code, _LOST)
        if state == "CANCELLED" and each.code is None:
            return self._end(each, 1, "it was cancelled (scancel)")
        reasons = {
            "OUT_OF_MEMORY": "it ran out of memory; it needs more than slurm_memory gives it",
            "TIMEOUT": "its time was over before it had written a checkpoint; slurm_grace may be too short",
            "NODE_FAIL": "its node failed",
            "BOOT_FAIL": "its node could not be started",
            "PREEMPTED": "it was preempted",
            "": each.state.reason,
        }
        return self._end(each, killed, reasons.get(state, "" if each.code else f"Slurm says: {each.state.in_a_word}"))

    def _end(self, each: _Submitted, code: int, reason: str = "") -> Ended:
        del self._jobs[each.job.name]
        return Ended(each.job.name, code, reason)


SLURM = ExecutorKind(spelling="slurm", hparams=SlurmHparams, make=Slurm, runs="as jobs of a Slurm cluster")


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
