"""From arguments to dataclasses: tyro parses; mistakes are worded here."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import typing
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import tyro

from foundations.errors import UsageError, did_you_mean
from foundations.hparams import Hparams

Flags = TypeVar("Flags")
_BOX = "│╭╮╰╯─ "


def parse(kind: type[Flags], argv: Sequence[str], command: str, default: Flags) -> Flags:
    """Return the flags of a command: a dataclass whose fields are groups of hyperparameters.

    A flag is `--` and a field's name; `--name=value` and `--name value` both work, and a bool is `--name`.
    Raises: UsageError that names the flag and what is possible. SystemExit after `--help`.
    """
    groups = group_types(kind)
    types = {f"--{name}": hint for group in groups for name, hint in typing.get_type_hints(group).items()}
    help_hint = f"See: python open_prune.py {command} --help"
    _check_flags(argv, types, help_hint)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind,
                args=list(argv),
                prog=f"open_prune.py {command}",
                default=default,
                use_underscores=True,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip(_BOX) for line in complaint.getvalue().splitlines()]
        raise UsageError(f"{next(filter(None, lines[1:]), 'These flags are not possible.')}\n{help_hint}") from stop


def positional(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split leading arguments that are not flags from the rest."""
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    return list(argv[:count]), list(argv[count:])


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the text given for a flag, the last one where there are several, or None where it is not given."""
    found = None
    for argument, following in zip_longest(argv, argv[1:]):
        name, equals, value = argument.partition("=")
        if name.replace("-", "_") == f"--{flag}".replace("-", "_"):
            found = value if equals else following
    return found


def group_types(kind: type[Any]) -> list[type[Hparams]]:
    """Return the hyperparameter groups that a dataclass of flags consists of."""
    hints = typing.get_type_hints(kind)
    return [hints[field.name] for field in dataclasses.fields(kind)]


def with_defaults(kind: type[Flags], values: dict[str, Any]) -> Flags:
    """Return flags at their declared defaults, but for some values by flag."""
    hints = typing.get_type_hints(kind)
    groups = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        group = hints[field.name]
        groups[field.name] = group(**{name: value for name, value in values.items() if name in group.names()})
    return kind(**groups)


def _check_flags(argv: Sequence[str], types: dict[str, Any], help_hint: str) -> None:
    """Word the two commonest mistakes better than a parser can: an unknown flag, and a value of another type."""
    rest = iter(argv)
    for argument in rest:
        if argument in ("-h", "--help") or argument.startswith("--tyro"):
            continue
        name, equals, value = argument.partition("=")
        flag = f"--{name[2:].replace('-', '_')}"
        if not argument.startswith("--"):
            raise UsageError(f"'{argument}' is not expected here; flags are written --name=value.\n{help_hint}")
        hint = types.get(flag)
        if hint is None and types.get(flag.replace("--no_", "--", 1)) is bool:
            hint = bool
        if hint is None:
            raise UsageError(f"There is no flag {name}.{did_you_mean(flag, types)}\n{help_hint}")
        if hint is bool:
            if equals:
                raise UsageError(f"{flag}: it takes no value; write {flag}, or --no_{flag[2:]} for the opposite.")
            continue
        if not equals:
            value = next(rest, None)  # type: ignore[assignment]
        if value is None or (not equals and value.startswith("--")):
            raise UsageError(f"{flag}: a value is missing; write {flag}=VALUE.\n{help_hint}")
        _check_type(flag, value, hint)


def _check_type(flag: str, value: str, hint: Any) -> None:
    kinds = typing.get_args(hint) or (hint,)
    if value == "None" and type(None) in kinds:
        return
    for kind, words in ((int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                kind(value)
            except ValueError as error:
                raise UsageError(f"{flag}: '{value}' is not possible; it takes {words}.") from error
