"""The body of a Slurm job: runs a command, handles its signals, and records its exit code.

submitit pickles an object of this class and nothing else: a command line and some file names, all of them strings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from platforms.executors.stopping import STOP, STOPPED


class SlurmTask:
    """A command that resumes from its checkpoint after Slurm has preempted it, or its time is over.

    Slurm sends a signal to every process of a job. Before the time is over, that is submitit's signal: the command
    ignores it, submitit's handler calls `checkpoint`, which asks the command to end, and then queues the job again.
    SIGTERM, which comes when a job is preempted, stopped or cancelled, reaches the command without our help; it must
    not be sent twice, as a second one ends the command without a checkpoint.
    """

    def __init__(self, command: Sequence[str], output: str, records: str, key: str) -> None:
        """Take the command line, the file for its output, the folder of exit codes, and the name of its own there."""
        self.command, self.output, self.records, self.key = list(command), output, records, key

    def __call__(self) -> None:
        """Run the command and end this process with its exit code, which is recorded first."""
        self._terminated = False
        if self._is_stopped():
            self._end(STOPPED)
        signal.signal(signal.SIGTERM, self._note)
        Path(self.output).parent.mkdir(parents=True, exist_ok=True)
        with Path(self.output).open("ab") as output:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_ignore_signals
            )
        if self._is_stopped() and not self._terminated:
            self._process.terminate()  # the signal came before there was a command
        try:
            code = self._wait()
        except RuntimeError:  # raised by submitit's handler: the job must not be queued again
            code = -signal.SIGTERM
        if self._terminated and code in (STOPPED, -signal.SIGTERM):
            if self._is_stopped():
                self._end(STOPPED)
            if not self._still_wanted():
                sys.exit(STOPPED)
            os.kill(os.getpid(), _requeue_signal())  # submitit's handler queues the job again, and ends this process
        self._end(code)

    def checkpoint(self) -> Any:
        """Ask the command to write its checkpoint, wait until it has ended, and return the next submission.

        submitit calls it from a signal handler, which may interrupt `__call__` anywhere.
        """
        from submitit.helpers import DelayedSubmission

        process = getattr(self, "_process", None)
        if process is not None:
            if not self._terminated:
                self._terminated = True
                process.send_signal(signal.SIGTERM)
            self._wait()
        if self._is_stopped():
            self._end(STOPPED)
        return DelayedSubmission(type(self)(**self.__getstate__()))

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("command", "output", "records", "key")}

    def _wait(self) -> int:
        """Return the command's exit code. Takes no lock, so that a signal handler may call it again meanwhile."""
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True

    def _is_stopped(self) -> bool:
        return Path(self.records, STOP).exists()

    def _end(self, code: int) -> None:
        """Record an exit code and end this process with it."""
        part = Path(self.records, f"{self.key}.part")
        part.write_text(str(code))
        part.replace(record_of(Path(self.records), self.key))
        sys.exit(code if code >= 0 else 128 - code)

    @staticmethod
    def _still_wanted() -> bool:
        """Return whether Slurm's SIGTERM was a preemption, not the end of a job that somebody has cancelled."""
        job = os.environ["SLURM_JOB_ID"]
        asked = subprocess.run(["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True)
        return asked.returncode != 0 or asked.stdout.strip() in ("RUNNING", "PREEMPTED", "PENDING")


def record_of(records: Path, key: str) -> Path:
    """Return the file that holds the exit code of a job."""
    return records / f"{key}.exit"


def _requeue_signal() -> signal.Signals:
    """Return the signal that Slurm sends before the time is over, from submitit's settings."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _ignore_signals() -> None:
    """Make the command ignore the signals for this process."""
    signal.signal(_requeue_signal(), signal.SIG_IGN)
