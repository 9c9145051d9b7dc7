"""Dispatch from the command line to a command, and from an error to its message and exit code."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.display.plain_table import printable_lines
from cli.plugin_flags import check_flags_of_plugins
from cli.request.flags import HelpRequested, taken_out
from cli.request.foreign_words import translated
from cli.request.help import PLUGIN
from foundations.access import reason
from foundations.environment import Environment, is_switched_on
from foundations.errors import Interrupted, OpenPruneError, PluginError, UsageError, choose_from
from foundations.interrupts import BEGINS_AGAIN, Interrupts
from foundations.plugins.plugins import load_plugins
from foundations.plugins.users_code import is_raised_by_plugin, place_of_error, words_of
from foundations.program import PROGRAM, version
from foundations.registry import load


@dataclass(frozen=True)
class Command:
    """A command: the function that runs it, and a summary in one line."""

    function: str
    """`module:function`, called with the arguments after the command and the environment; returns the exit code."""
    summary: str


def _commands() -> dict[str, Command]:
    """Return the commands by name, in the order of `commands.txt`."""
    lines = Path(__file__).with_name("commands.txt").read_text(encoding="utf-8").splitlines()
    cells = ([cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("#"))
    return {name: Command(f"cli.commands.{function}", summary) for name, function, summary in cells}


COMMANDS = _commands()
_HELP = ("-h", "--help", "help")


def main(argv: Sequence[str]) -> int:
    """Run a command and return the exit code: 0, 1 (the environment failed), 2 (the caller's mistake), 128 + signal."""
    _open_standard_streams()
    try:
        code = _dispatched(list(argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        _drop_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_output()
        _complain(f"Cannot use {error.filename or 'standard output'}: {reason(error)}.")
        return 1


def _open_standard_streams() -> None:
    """Open standard streams that the process was started without, so that no file of a run takes their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # rather than failing over a name in another encoding


def _dispatched(argv: list[str]) -> int:
    try:
        with Interrupts(BEGINS_AGAIN, argv[0] if argv and argv[0] in COMMANDS else "").caught():
            return _dispatch(argv)
    except HelpRequested as help_text:
        print(help_text)
        return 0
    except (OpenPruneError, Interrupted) as error:
        _report(error, _message(error, argv))
        if error.exit_code == 128 + signal.SIGPIPE:
            _drop_output()
        return error.exit_code
    except BrokenPipeError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in's sys.exit, too
        place = place_of_error(error)
        if not place:
            raise
        _report(error, f"{place}: {words_of(error)}")
        return 1


def _report(error: BaseException, message: str) -> None:
    """Print the message of an error, below its whole traceback where OPEN_PRUNE_TRACEBACK asks for it."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if is_switched_on("OPEN_PRUNE_TRACEBACK"):
        import traceback

        with contextlib.suppress(OSError, ValueError):
            traceback.print_exception(error)
    _complain(message)


def _complain(message: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(printable_lines(f"open_prune: {message}"), file=sys.stderr)


def _drop_output() -> None:
    """Discard the remaining output, so that it does not fail again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _message(error: OpenPruneError | Interrupted, argv: Sequence[str]) -> str:
    """Return the error's message, with the hyperparameters that it is about as flags.

    For a name from another code base, the message gives our name.
    """
    if isinstance(error, UsageError):
        from cli.request.foreign_answers import answer_to_value

        answer = answer_to_value(error, argv)
        if answer is not None:
            return answer
        if error.hparams:
            return f"{', '.join(f'--{name}' for name in error.hparams)}: {error.reason}{_in_plugin(error)}"
    return f"{error}{_in_plugin(error)}"


def _in_plugin(error: OpenPruneError | Interrupted) -> str:
    """Return the line of a plug-in that caused an error, as text; empty if it is unknown or in the message already."""
    if isinstance(error, PluginError | Interrupted) or is_raised_by_plugin(error):
        return ""
    place = place_of_error(error)
    return f"\n(in {place})" if place else ""


def _dispatch(argv: list[str]) -> int:
    files, argv = taken_out(PLUGIN, argv)
    argv = translated(argv)
    environment = Environment.read()
    load_plugins([*environment.plugins, *(Path(file).expanduser() for file in files)])
    check_flags_of_plugins()
    flag, _, topic = argv[0].partition("=") if argv else (_HELP[0], "", "")
    if flag in _HELP:
        words = [*([topic] if topic else []), *argv[1:]]
        if not words:
            print(_overview())
            return 0
        argv = [*words, "--help"]
    if argv[0] == "--version":
        print(f"open_prune {version()}")
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        raise UsageError(f"'{name}' is not a command{choose_from(name, COMMANDS)}")
    return int(load(COMMANDS[name].function)(rest, environment))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [FLAGS]        (COMMAND --help: its flags; --version: the version)",
            "",
            *lines,
            "",
            "Runs are under OPEN_PRUNE_ROOT (~/open_prune_data), datasets under OPEN_PRUNE_DATASETS",
            "(~/open_prune_datasets); OPEN_PRUNE_NO_DOWNLOAD=1 forbids downloads. OPEN_PRUNE_UPSTREAM lists roots",
            f"of others, separated by '{os.pathsep}', whose complete runs count as well and which are only read.",
            "",
            "--plugin=FILE.py, on any command, adds the methods, datasets, networks, ... that a file of",
            f"your own declares; OPEN_PRUNE_PLUGINS lists such files for every command, separated by '{os.pathsep}'.",
            "OPEN_PRUNE_TRACEBACK=1 prints the whole traceback of an error, as in your own code.",
        ]
    )
