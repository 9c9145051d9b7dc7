"""`pbs`: jobs of a PBS cluster (OpenPBS, PBS Pro), an executor as a plug-in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from open_prune import ExecutorHparams, ExecutorKind, JobState, Scheduler, Task, hparam

PHASES = {"Q": "waiting", "H": "waiting", "W": "waiting", "T": "waiting", "M": "waiting", "F": "ended", "X": "ended"}
"""The phases of PBS's states; a job in any other one has started."""
UNKNOWN_JOB = 153
"""The exit code of qstat and qdel if one of the jobs is gone; they act on the others."""


@dataclass(frozen=True, kw_only=True)
class PbsHparams(ExecutorHparams):
    """Jobs of a PBS cluster."""

    pbs_queue: str | None = hparam(None)
    """Queue; by default the server's own."""
    pbs_account: str | None = hparam(None)
    """Account that jobs are charged to."""
    pbs_walltime: int = hparam(120, at_least=1)
    """Minutes that PBS grants a job. A run that takes longer goes on from its checkpoint in another job."""
    pbs_grace: int = hparam(90, at_least=1)
    """Seconds before the end of that time at which a job writes its checkpoint and ends."""
    pbs_ncpus: int = hparam(2, at_least=1)
    """CPU cores, and threads, of a job."""
    pbs_ngpus: int = hparam(0, at_least=0)
    """GPUs of a job."""
    pbs_memory: float | None = hparam(None, above=0)
    """Gigabytes of memory; by default the queue's own."""
    pbs_setup: str | None = hparam(None)
    """A shell command that every job runs first, such as 'module load cuda'."""
    pbs_max_jobs: int = hparam(1000, at_least=1)
    """Number of jobs in the queue at once; the others are submitted as these end."""
    pbs_poll_seconds: float = hparam(15.0, above=0)
    """Seconds between questions to PBS about all jobs."""


class PBS(Scheduler):
    """Submits job arrays, and knows jobs by the ids of their subjobs."""

    commands = ("qsub", "qstat", "qdel")
    largest_array = 500

    def __init__(self, hparams: PbsHparams) -> None:
        """Take the resources of jobs."""
        self._hparams, self.threads = hparams, hparams.pbs_ncpus
        self.max_jobs, self.poll_seconds = hparams.pbs_max_jobs, hparams.pbs_poll_seconds
        self.seconds = max(1.0, 60.0 * hparams.pbs_walltime - hparams.pbs_grace)

    def submit(self, tasks: Sequence[Task], after: Sequence[str]) -> list[str]:
        """Submit one script, in which each subjob runs its own task."""
        cases = [f"{number}) exec {shlex.join(task.command_line)} ;;" for number, task in enumerate(tasks)]
        setup = [self._hparams.pbs_setup] if self._hparams.pbs_setup else []
        script = "\n".join(["#!/bin/sh", *setup, 'case "${PBS_ARRAY_INDEX:-0}" in', *cases, "esac", ""])
        array = ["-J", f"0-{len(tasks) - 1}"] if len(tasks) > 1 else []
        number = self.output_of("qsub", *self._options(), *array, stdin=script).strip()
        return [number.replace("[]", f"[{index}]") for index in range(len(tasks))]

    def _options(self) -> list[str]:
        """Return the options of qsub: all variables, no output files, and the resources."""
        hparams = self._hparams
        select = f"select=1:ncpus={hparams.pbs_ncpus}"
        select += f":ngpus={hparams.pbs_ngpus}" if hparams.pbs_ngpus else ""
        select += f":mem={round(1024 * hparams.pbs_memory)}mb" if hparams.pbs_memory else ""
        options = ["-N", "open_prune", "-V", "-j", "oe", "-o", "/dev/null", "-l", select]
        options += ["-l", f"walltime={hparams.pbs_walltime // 60:02d}:{hparams.pbs_walltime % 60:02d}:00"]
        options += ["-q", hparams.pbs_queue] if hparams.pbs_queue else []
        return options + (["-A", hparams.pbs_account] if hparams.pbs_account else [])

    def states(self, jobs: Sequence[str]) -> Mapping[str, JobState]:
        """Ask for all jobs at once, also those that have ended."""
        listing = self.output_of("qstat", "-x", "-t", "-f", *jobs, exit_codes=(0, UNKNOWN_JOB))
        entries = (entry.partition("\n") for entry in listing.split("Job Id: ")[1:])
        return {number.strip(): _state(lines) for number, _, lines in entries}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Delete jobs from the queue."""
        self.output_of("qdel", *jobs, exit_codes=(0, UNKNOWN_JOB))

    def how_to_look(self) -> str:
        """Return PBS's own commands."""
        return "The jobs stay with PBS: `qstat -u $USER` shows them, `qdel` ends them."


def _state(lines: str) -> JobState:
    """Return the state of a job from its attributes as `qstat -f` prints them, one a line: `    job_state = R`."""
    facts = dict(re.findall(r"^    (job_state|Exit_status|comment) = (.*)$", lines, flags=re.MULTILINE))
    phase, comment = PHASES.get(facts.get("job_state", ""), "running"), facts.get("comment", "")
    if phase != "ended":
        return JobState(phase, comment)
    if "Exit_status" not in facts:
        return JobState("ended", "it was deleted from the queue (qdel)", 1)
    status = int(facts["Exit_status"])
    if status < 0:  # PBS killed it: its walltime or memory was not enough, its node failed
        return JobState("ended", comment or f"PBS says: Exit_status = {status}", -9)
    return JobState("ended", f"PBS says: Exit_status = {status}", -(status % 128) if status > 128 else None)


KIND = ExecutorKind(spelling="pbs", hparams=PbsHparams, scheduler=PBS, runs="as jobs of a PBS cluster")
