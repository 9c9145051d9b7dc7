"""Errors that people are meant to read.

They are raised where the fact is known and worded for the person who typed the command; `cli` prints the message
without a traceback and exits with the class's `exit_code`. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OpenPruneError(Exception):
    """Base of all errors with a message for people."""

    exit_code = 1


class UsageError(OpenPruneError):
    """The caller's mistake: a flag, a name or a value that is not possible."""

    exit_code = 2


class WorldError(OpenPruneError):
    """The world's failure: no data, no network, no room, no permission, no such state."""


class DamagedError(WorldError):
    """A file of a run is not what its manifest says, or a directory is not what its name says."""


class Interrupted(OpenPruneError):
    """The job was asked to stop (SIGINT or SIGTERM), has written its checkpoint and can be resumed.

    The exit code is the shell's convention for a process ended by that signal: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(wrong: str, possible: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest possible name, or nothing where none is close."""
    close = difflib.get_close_matches(wrong, list(possible), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
