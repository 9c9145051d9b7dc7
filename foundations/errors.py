"""Errors with messages for people.

They are raised where the cause is known; `cli` prints the message without a traceback and exits with the class's
`exit_code`. Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable


class OpenPruneError(Exception):
    """Base of all errors with a message for people."""

    exit_code = 1


class UsageError(OpenPruneError):
    """A mistake of the caller: a hyperparameter, a name or a value that is not valid.

    `UsageError("it must be above 0.", "lr")` reads `lr: it must be above 0.`; the command line, which knows that
    hyperparameters are flags there, prints `--lr: it must be above 0.`
    """

    exit_code = 2

    def __init__(self, reason: str, *hparams: str) -> None:
        """Take the reason and the names of the hyperparameters or arguments that it is about."""
        self.reason, self.hparams = reason, hparams
        super().__init__(": ".join(filter(None, (", ".join(hparams), reason))))


class PluginError(UsageError):
    """A mistake in a plug-in. The message names the user's own file and line, and fits in four lines."""


class EnvironmentFailure(OpenPruneError):
    """A failure of the environment: no data, no network, a full disk, no permission, no such state."""


class ClosedError(EnvironmentFailure):
    """A file or folder that this user may not read, or not write."""


class DamagedError(EnvironmentFailure):
    """A file of a run is not what its manifest says, or a directory is not what its name says."""


class Busy(OpenPruneError):
    """Another process works on the run, and the job was told not to wait for it."""

    exit_code = 75  # "temporary failure; try again later" in sysexits.h


class TakenOver(Busy):
    """Another process has taken over the unfinished files of this one, which ends."""


class PublishedFirst(OpenPruneError):
    """Another process has completed the run before this one, whose unfinished files are removed."""


class Interrupted(BaseException):
    """The process was asked to stop (SIGINT or SIGTERM); a training has written its checkpoint and can be resumed.

    The exit code is the shell's convention for a process ended by that signal: 130 for SIGINT, 143 for SIGTERM.
    A signal may raise it anywhere, so it is not an Exception: code of others that catches those must not drop it.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(wrong: str, names: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest name, capitals aside, or nothing where none is close."""
    import difflib  # here, as most commands are not wrong

    bare = {name: name.casefold().lstrip("-") for name in names}  # the dashes of flags would make all of them alike
    close = difflib.get_close_matches(wrong.casefold().lstrip("-"), set(bare.values()), n=1, cutoff=0.6)
    alike = [name for name in bare if bare[name] in close]
    name = max(alike, key=lambda name: difflib.SequenceMatcher(None, wrong, name).ratio(), default=None)
    return "" if name is None else f" Did you mean '{name}'?"


_MANY = 30
"""Above so many names, a suggestion stands in place of the list."""


def choose_from(wrong: str, choices: Iterable[str], names: Iterable[str] | None = None) -> str:
    """Return the end of a sentence that refuses a name: `; choose from a, b.`, or first what may have been meant.

    names: the names to suggest from, if not the choices.
    """
    choices = list(choices)
    if not choices:
        return "; there is none to choose from."
    suggestion, listed = did_you_mean(wrong, choices if names is None else names), ", ".join(choices)
    if suggestion and len(choices) > _MANY:
        return f".{suggestion} ({len(choices)} names are possible.)"
    return f".{suggestion} Choose from {listed}." if suggestion else f"; choose from {listed}."


def invalid(value: object, hparam: str, choices: Iterable[str]) -> UsageError:
    """Return the error for a value that is none of the choices."""
    return UsageError(f"'{value}' is not a valid value{choose_from(str(value), choices)}", hparam)
