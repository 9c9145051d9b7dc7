"""The body of a scheduler's job: a command that writes a checkpoint when it is asked to end, and records its exit code.

Also a program, started by its path as in `Task.command_line`; so it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

STOP = "stop"
"""The file, in the folder of records, that asks jobs to end and not to start again."""
STOPPED = 128 + signal.SIGTERM
"""The exit code of a command that was asked to end and wrote its checkpoint."""
_LOOK_SECONDS = 0.5


def record_of(records: Path, key: str) -> Path:
    """Return the file that holds the exit code of a job."""
    return records / f"{key}.exit"


class Task:
    """A command to run on a node. Until it runs, its attributes are strings and numbers, so that it can be pickled."""

    seconds: float = 0.0
    _process: subprocess.Popen[bytes] | None = None
    _is_asked = False
    """Whether the command was asked to end."""
    _is_terminated = False
    """Whether the scheduler asked it to end."""

    def __init__(
        self, command: Sequence[str], output: str, records: str, key: str, seconds: float = 0.0, name: str = ""
    ) -> None:
        """Take the command line, the file for its output, the folder of records, and the name of its own there.

        seconds: the time after which the command is asked to end; 0 for none. name: the job's name, for people.
        """
        self.command, self.output, self.records, self.key = list(command), output, records, key
        self.seconds, self.name = seconds, name

    @property
    def command_line(self) -> list[str]:
        """The command line that a scheduler runs on a node. It ends with the command's exit code."""
        options = (self.output, self.records, self.key, str(self.seconds))
        return [sys.executable, "-I", str(Path(__file__).resolve()), *options, *self.command]

    @property
    def started(self) -> Path:
        """The file that exists once the command has started."""
        return Path(self.records, f"{self.key}.started")

    def run(self, before: Callable[[], None] | None = None) -> int:
        """Run the command, and return its exit code: negative if a signal killed it.

        before: called in the command's process before it starts.
        """
        if self.is_stopped() or self._is_asked:
            return STOPPED
        self.started.touch()
        Path(self.output).parent.mkdir(parents=True, exist_ok=True)
        tied = [sys.executable, "-I", str(Path(__file__).with_name("tied.py")), str(os.getpid())]
        with Path(self.output).open("ab") as file:
            self._process = subprocess.Popen(
                [*tied, *self.command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, preexec_fn=before
            )
        deadline = time.monotonic() + (self.seconds or math.inf)
        while True:
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self._process.wait(_LOOK_SECONDS)
                should_end = self.is_stopped() or time.monotonic() > deadline
            except KeyboardInterrupt:  # Ray's way to cancel a task
                should_end = True
            if should_end:
                self.ask_to_end()

    def run_and_exit(self) -> None:
        """Run the command, record its exit code, and end this process with it.

        Schedulers send SIGTERM to all processes of a job that they preempt, cancel or end. The exit code of a command
        that ends by it is not recorded: only the scheduler knows whether the job starts again.
        """
        signal.signal(signal.SIGTERM, self._note)
        code = self.run()
        if self._is_terminated and not self.is_stopped() and code in (STOPPED, -signal.SIGTERM):
            self.terminated()
        self.exit(code)

    def exit(self, code: int) -> None:
        """Record an exit code, and end this process with it."""
        part = Path(self.records, f"{self.key}.part")
        part.write_text(str(code))
        part.replace(record_of(Path(self.records), self.key))
        sys.exit(code if code >= 0 else 128 - code)

    def terminated(self) -> None:
        """End this process after the scheduler's signal has ended the command."""
        sys.exit(STOPPED)

    def ask_to_end(self) -> None:
        """Send the command SIGTERM, once: a second one would end it without a checkpoint."""
        if self._process is not None and not self._is_asked:
            self._process.terminate()
        self._is_asked = True

    def is_stopped(self) -> bool:
        """Return whether all jobs were asked to end."""
        return Path(self.records, STOP).exists()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        """Note a SIGTERM, which the command has received as well."""
        self._is_terminated = self._is_asked = True


if __name__ == "__main__":
    output, records, key, seconds, *command = sys.argv[1:]
    Task(command, output, records, key, float(seconds)).run_and_exit()
