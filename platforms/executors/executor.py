"""The interface of executors, which run commands without knowing what a command computes.

A command's results are in the directories of its runs, so an executor may die and be started again, and several may
work on the same runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class CommandJob:
    """A command to run somewhere."""

    name: str
    """Name of its runs, as in `ls`; unique among the jobs that are submitted at the same time."""
    arguments: tuple[str, ...]
    """Arguments of the program, such as ("run", "FILE", "--root=DIR"). An executor may add devices and threads."""
    output: Path
    """The file to which standard output and errors are appended."""
    after: tuple[str, ...] = ()
    """The names of submitted jobs that must have succeeded before it starts."""
    runs: tuple[str, ...] = ()
    """The runs that it computes, for people who watch a queue; by default the run of its name."""


def with_threads(job: CommandJob, threads: int) -> list[str]:
    """Return the arguments of a job, with a number of threads added if they have none."""
    is_given = any(argument.partition("=")[0] == "--threads" for argument in job.arguments)
    return [*job.arguments, *([] if is_given else [f"--threads={threads}"])]


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    name: str
    exit_code: int
    """The command's exit code; negative: the number of the signal that killed it."""
    reason: str = ""
    """Reason for its end, if the executor knows more than the command's output shows: out of memory, node failed."""


class Executor(ABC):
    """Runs commands, several at once. A context manager that releases its resources at the end."""

    takes_waiting_jobs: bool = False
    """Whether it takes jobs whose dependencies have not ended, and starts them in order by itself."""

    def prepare(self) -> None:
        """Prepare for the first job, if that takes time; a signal may interrupt it."""

    @abstractmethod
    def has_room(self) -> bool:
        """Return whether it can take another job now."""

    @abstractmethod
    def submit(self, job: CommandJob) -> None:
        """Take a job. Raises: EnvironmentFailure if the executor cannot be reached."""

    @abstractmethod
    def ended(self, seconds: float) -> list[Ended]:
        """Return the jobs that have ended since the last call; wait up to some seconds for the first.

        A job that is preempted, or whose time is over, has not ended: the executor starts it again by itself.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask every running job to write a checkpoint and end, and forget those that have not started.

        `ended` returns all of them eventually.
        """

    def slots(self) -> int:
        """Return the number of jobs that run at the same time, for estimates; 1 if unknown."""
        return 1

    def threads(self) -> int | None:
        """Return the number of CPU threads of a job on this machine; None if jobs may run on other machines."""
        return None

    def queued(self) -> set[str]:
        """Return the names of the submitted jobs that wait in a queue."""
        return set()

    def how_to_look(self) -> str:
        """Return instructions for watching jobs that outlive this process; empty if there are none."""
        return ""

    def close(self) -> None:
        """Release all resources. Jobs that can outlive this process go on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class Program:
    """The command that starts the program, for executors."""

    entry: str
    """`module:function` that takes a command line and returns the exit code, for executors that fork."""
    preload: Sequence[str] = ()
    """Modules that every job imports, for executors that import once and fork."""
    state: str = ""
    """`module:function` that returns the part of a process's state, by name, that results contain and jobs may change;
    for executors that run several jobs in a process."""
    command: Sequence[str] = ()
    """The command line of the program without arguments, for executors that start processes."""
    folder: Path = Path(".jobs")
    """Folder for an executor's own files, on a file system that all its machines share."""
