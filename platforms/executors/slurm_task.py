"""The body of a Slurm job. submitit pickles an object of this class: jobs that wait keep its name and attributes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from platforms.executors.task import STOPPED, Task


def _requeue_signal() -> signal.Signals:
    """Return the signal that Slurm sends before the time is over, from submitit's settings."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _ignore_signal() -> None:
    """Make the command ignore Slurm's signal for this process."""
    signal.signal(_requeue_signal(), signal.SIG_IGN)


class SlurmTask(Task):
    """A command that resumes from its checkpoint after Slurm has preempted it, or its time is over.

    Slurm sends a signal to every process of a job. Before the time is over, that is submitit's signal: the command
    ignores it, submitit's handler calls `checkpoint`, which asks the command to end, and then queues the job again.
    """

    def __call__(self) -> None:
        """Run the command and end this process with its exit code, which is recorded first."""
        self.run_and_exit()

    def run(self, before: Callable[[], None] | None = _ignore_signal) -> int:
        """Run the command, and return its exit code."""
        try:
            return super().run(before)
        except RuntimeError:  # raised by submitit's handler: the job must not be queued again
            return -signal.SIGTERM

    def checkpoint(self) -> Any:
        """Ask the command to write its checkpoint, wait until it has ended, and return the next submission.

        submitit calls it from a signal handler, which may interrupt `run` anywhere. So it waits without a lock.
        """
        from submitit.helpers import DelayedSubmission

        self.ask_to_end()
        if self._process is not None:
            with contextlib.suppress(ChildProcessError):  # `run` had waited for it
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        if self.is_stopped():
            self.exit(STOPPED)
        return DelayedSubmission(type(self)(self.command, self.output, self.records, self.key))

    def terminated(self) -> None:
        """Queue the job again after a preemption; end it if somebody has cancelled it."""
        job = os.environ["SLURM_JOB_ID"]
        asked = subprocess.run(["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.strip() not in ("RUNNING", "PREEMPTED", "PENDING"):
            super().terminated()
        os.kill(os.getpid(), _requeue_signal())  # submitit's handler queues the job again, and ends this process
