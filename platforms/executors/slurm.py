"""`slurm`: jobs of a Slurm cluster, through submitit."""

from __future__ import annotations

import contextlib
import getpass
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundations.description.hparams import hparam
from foundations.errors import EnvironmentFailure
from foundations.program import INSTALLED, TOP
from platforms.executors.registry import ExecutorHparams, ExecutorKind
from platforms.executors.scheduler import JobState, Scheduler
from platforms.executors.slurm_task import SlurmTask
from platforms.executors.task import Task

_SAME_NAMES = ("partition", "time", "constraint", "account", "qos", "exclude")
"""Options of sbatch that submitit passes on and that have a flag of their name."""
_WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"}
_RUNNING = {"RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT", "COMPLETING", "SPECIAL_EXIT"}
_REASONS = {
    "CANCELLED": "it was cancelled (scancel)",
    "OUT_OF_MEMORY": "it ran out of memory; it needs more than slurm_memory gives it",
    "TIMEOUT": "its time was over before it had written a checkpoint; slurm_grace may be too short",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node could not be started",
    "PREEMPTED": "it was preempted",
}


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


class Slurm(Scheduler):
    """Starts jobs in order, and restarts them after preemption."""

    commands = ("sbatch", "srun", "squeue", "scancel")
    takes_waiting_jobs = True
    largest_array = 1000

    def __init__(self, hparams: SlurmHparams) -> None:
        """Take the resources of jobs."""
        self._hparams, self.threads = hparams, hparams.slurm_cpus
        self.max_jobs, self.poll_seconds = hparams.slurm_max_jobs, hparams.slurm_poll_seconds

    def open(self, records: Path) -> None:
        """Prepare submitit. Raises: EnvironmentFailure without it."""
        try:
            import submitit
        except ImportError as error:
            raise EnvironmentFailure(
                "The executor slurm needs submitit: pip install open_prune[slurm], or submitit alone."
            ) from error
        self._submitit = submitit.SlurmExecutor(records, max_num_timeout=self._hparams.slurm_requeues)
        with contextlib.suppress(EnvironmentFailure):
            settings = self.output_of("scontrol", "show", "config")
            found = re.search(r"^MaxArraySize\s*=\s*(\d+)", settings, flags=re.MULTILINE)
            self.largest_array = max(1, int(found[1]) - 1) if found else self.largest_array

    def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> list[str]:
        """Submit tasks as an array of jobs."""
        try:
            self._submitit.update_parameters(**self._parameters(after))
            with self._submitit.batch():
                jobs = [self._submitit.submit(SlurmTask(**vars(task))) for task in tasks]
        except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
            raise EnvironmentFailure(f"Slurm does not take the jobs: {_last_line(error)}") from error
        return [job.job_id for job in jobs]

    def states(self, jobs: Sequence[str]) -> dict[str, JobState]:
        """Return the states of jobs, by number.

        jobs: numbers as `12` or, in an array, `12_3`. One command asks for all jobs of the user: a list of many numbers
        makes a long command line, and fails as a whole if one job is gone.
        """
        options = ("--noheader", "--array", "--states=all", f"--user={getpass.getuser()}", "--format=%i|%T|%r")
        rows = [line.strip().split("|", 2) for line in self.output_of("squeue", *options).splitlines()]
        found = {number: _state(name, reason) for number, name, reason in rows}
        forgotten = [job for job in jobs if job not in found]
        if forgotten:
            which = ("--allocations", f"--jobs={','.join(forgotten)}")
            with contextlib.suppress(EnvironmentFailure):  # not every cluster keeps accounts
                for line in self.output_of(
                    "sacct", "--noheader", "--parsable2", *which, "--format=JobID,State"
                ).splitlines():
                    number, name = line.split("|")
                    found[number] = _state(name.split()[0])  # "CANCELLED by 1000"
        return found

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel jobs, unless they have just started."""
        for start in range(0, len(jobs), 500):
            self.output_of("scancel", "--quiet", "--state=PENDING", *jobs[start : start + 500])

    def how_to_look(self) -> str:
        """Return Slurm's own commands."""
        return "The jobs stay with Slurm: `squeue --me` shows them, `scancel --me --name=open_prune` ends them."

    def _parameters(self, after: Sequence[str]) -> dict[str, Any]:
        """Return submitit's parameters for the hyperparameters."""
        hparams = self._hparams
        further = [option.removeprefix("--").partition("=") for option in shlex.split(hparams.slurm_options or "")]
        needs_path = [] if INSTALLED else [f"export PYTHONPATH={shlex.quote(str(TOP))}${{PYTHONPATH:+:$PYTHONPATH}}"]
        return {
            "job_name": "open_prune",
            **{name: getattr(hparams, f"slurm_{name}") for name in _SAME_NAMES},
            "signal_delay_s": hparams.slurm_grace,
            "mem": None if hparams.slurm_memory is None else f"{round(hparams.slurm_memory * 1024)}M",
            "cpus_per_task": hparams.slurm_cpus,
            "gpus_per_node": hparams.slurm_gpus or None,
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


SLURM = ExecutorKind(spelling="slurm", hparams=SlurmHparams, scheduler=Slurm, runs="as jobs of a Slurm cluster")


def _state(name: str, reason: str = "") -> JobState:
    """Return the state of a job. name, reason: in Slurm's words, such as PENDING and Resources."""
    if name in _WAITING:
        phase = "stuck" if reason == "launch failed requeued held" else "waiting"
        return JobState(phase, "" if reason == "None" else reason)
    if name in _RUNNING:
        return JobState("running")
    how = _REASONS.get(name, f"Slurm says: {name.lower().replace('_', ' ')}")
    return JobState("ended", how, {"COMPLETED": None, "FAILED": None, "CANCELLED": 1}.get(name, -9))


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
