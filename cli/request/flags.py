"""Parsing of arguments into groups of hyperparameters, and requests for help."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cli.request.foreign_answers import answer_to_flag, given_in
from cli.request.foreign_words import is_short_flag
from cli.request.help import PLUGIN, help_asked, help_text, title_of, without_help
from foundations.description.desc import RunRef
from foundations.description.hparams import HparamField, Hparams, fields_of, help_of
from foundations.errors import UsageError, did_you_mean
from foundations.program import PROGRAM
from pruning.hparams import ExamplesHparams

Flags = TypeVar("Flags")
Groups = dict[str, Hparams]
RunOf = Callable[[str, Groups], RunRef]
"""(text of a flag that names a run, the groups before its own) -> the run."""


_TRUTHS = ("True", "False", "true", "false")
"""Values that flags of other programs take and switches here do not."""
_GIVEN_ONCE = ("where",)
"""Flags that may not be repeated: if the last one counted, `rm` would remove more runs than all of them select."""


class HelpRequested(Exception):
    """`--help` was given; the text is the help."""


def parse(
    kind: type[Flags],
    argv: Sequence[str],
    command: str,
    preset: Mapping[str, Any] | None = None,
    run_of: RunOf | None = None,
) -> Flags:
    """Return the flags of a command: a dataclass whose fields are groups of hyperparameters.

    A flag is `--` and a field's name; `--name=value` and `--name value` both work, and a bool is `--name`.
    preset: values by name that the arguments override. run_of: parses the texts that name runs.
    Raises: UsageError that names the flag and what is valid; HelpRequested.
    """
    declared: Any = kind
    asked, argv = help_asked(argv), without_help(argv)
    given, stray = _read(argv, _flag_types(declared), command)
    values = {**(preset or {}), **given}
    groups = {name: group.group_for(values) for name, group in groups_of(declared).items()}
    if asked is not None:
        raise HelpRequested(help_text(kind, groups_of(declared), groups, command, values, asked))
    refuse_shared_names(declared, tuple(groups.items()))
    for name in given:
        if not any(name in _fields_by_name(group) for group in groups.values()):
            raise _unknown(name, argv, kind, [each for group in groups.values() for each in group.names()], command)
    if stray:
        raise UsageError(f"'{stray}' is not expected here; flags are written --name=value.\n{_hint(command)}")
    built: Groups = {}
    for name, group in groups.items():
        own = _fields_by_name(group)
        chosen = {hparam: value for hparam, value in (preset or {}).items() if hparam in own}
        for hparam in sorted(own.keys() & given.keys()):
            chosen[hparam] = _value(own[hparam], given[hparam], built, run_of)
        built[name] = _group(group, tuple((hparam, type(value), value) for hparam, value in chosen.items()))
    return kind(**built)


@functools.lru_cache(maxsize=1024)
def _group(group: type[Hparams], values: tuple[tuple[str, type, Any], ...]) -> Hparams:
    """Return a group with some values, cached: the commands of a sweep share most groups."""
    return group(**{name: value for name, _, value in values})


def flags_of(group: Hparams) -> list[str]:
    """Return the arguments for the values of a group, without defaults."""
    found = []
    for field in fields_of(type(group)):
        value = getattr(group, field.name)
        if value != field.default:
            is_switch = isinstance(value, bool)
            found.append(f"--{'' if value else 'no_'}{field.name}" if is_switch else f"--{field.name}={value}")
    return found


def positional(argv: Sequence[str], kind: Any = None) -> tuple[list[str], list[str]]:
    """Split positional arguments from the rest: all of them, or without `kind` the leading ones only.

    kind: the flags of the command, which determine whether the argument after a flag is its value.
    """
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    names, rest = list(argv[:count]), list(argv[count:])
    if kind is None:
        return names, rest
    known, flags = _flag_types(kind), list[str]()
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("-"):
            names.append(argument)
            continue
        flags.append(argument)
        name = _name(argument)
        is_switch = (name if name in known else name.removeprefix("no_")) in _switches(known)
        if name and "=" not in argument and not is_switch and rest and not rest[0].startswith("--"):
            flags.append(rest.pop(0))
    return names, flags


def _switches(known: Mapping[str, HparamField]) -> set[str]:
    return {name for name, field in known.items() if _is_switch(field)}


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the last text given for a flag, or None if it is not given."""
    found = None
    for argument, following in itertools.zip_longest(argv, argv[1:]):
        name, equals, value = argument.partition("=")
        if _name(name) == flag:
            found = value if equals else following
    return found


def taken_out(flag: str, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return every text given for a flag that may be repeated, and the other arguments. Raises: UsageError."""
    found, others, rest = [], [], list(argv)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if _name(name) != flag:
            others.append(argument)
        elif equals or (rest and not rest[0].startswith("--")):
            found.append(value if equals else rest.pop(0))
        else:
            raise UsageError(f"a value is missing; write --{flag}=VALUE.", flag)
    return found, others


def separated(argv: Sequence[str], known: Mapping[str, HparamField]) -> tuple[list[str], list[str]]:
    """Split arguments into some flags with their values, and the others."""
    found, others, rest = [], [], list(argv)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        name = _name(flag)
        off = name.removeprefix("no_")
        if name not in known and not (off in known and _is_switch(known[off])):
            others.append(argument)
        elif not equals and name in known and not _is_switch(known[name]) and rest and not rest[0].startswith("--"):
            found.append(f"--{name}={rest.pop(0)}")
        else:
            found.append(f"--{name}{equals}{value}")
    return found, others


@functools.cache
def groups_of(kind: Any) -> dict[str, type[Hparams]]:
    """Return the groups of hyperparameters in the flags of a command, by name."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@functools.cache
def _fields_by_name(group: type[Hparams]) -> dict[str, HparamField]:
    return {field.name: field for field in fields_of(group)}


@functools.cache
def _flag_types(kind: Any) -> dict[str, HparamField]:
    return {field.name: field for group in groups_of(kind).values() for field in fields_of(group)}


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_") if flag.startswith("--") else ""


@functools.lru_cache(maxsize=256)
def refuse_shared_names(kind: Any, named_groups: tuple[tuple[str, type[Hparams]], ...]) -> None:
    """Raise UsageError where two groups have a flag of the same name, as a plug-in may cause: it would set both.

    A flag that both inherit from one class, with the same help, is one flag, such as the schedule of gradual pruning.
    kind: the flags of a command. named_groups: the classes of its groups, by name.
    """
    declared, groups = groups_of(kind), dict(named_groups)
    holders: dict[str, list[str]] = {}
    for name, group in groups.items():
        for field in group.names():
            holders.setdefault(field, []).append(name)
    for field, names in holders.items():
        if len(names) > 1 and len({help_of(groups[name])[field] for name in names}) > 1:
            words = []
            for name in names:
                owners = [] if field in declared[name].names() else declared[name].owners_of(field)
                words.append(" and ".join(f"--{owner}" for owner in owners) or f"'{title_of(groups[name])}'")
            raise UsageError(
                f"this is a flag of {' and of '.join(words)}, and would set both. Rename the option of the plug-in: "
                "begin it with the name of what it belongs to.",
                field,
            )


def _is_switch(field: HparamField) -> bool:
    """Return whether the flag takes no value."""
    return bool in field.types


def _read(argv: Sequence[str], known: Mapping[str, HparamField], command: str) -> tuple[dict[str, str | bool], str]:
    """Return the text given for each flag, or whether a bool was given; and the first argument that belongs to no flag.

    A flag that is not known yet, because another flag selects its group, takes a value unless the next
    argument is a flag.
    """
    given: dict[str, str | bool] = {}
    stray, rest = "", list(argv)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        name = _name(flag)
        if not name and is_short_flag(flag):
            name = flag  # of another code base; it is answered as an unknown one
        if not name:
            stray = stray or argument
            continue
        off = name.removeprefix("no_")
        is_off = name not in known and off != name and off in known and _is_switch(known[off])
        if is_off or (name in known and _is_switch(known[name])):
            if equals or (rest and rest[0] in _TRUTHS):
                raise _takes_no_value(off)
            given[off if is_off else name] = not is_off
            continue
        if name in given and name in _GIVEN_ONCE:
            raise UsageError("it is given twice; write one, with commas between the conditions.", name)
        following = rest[0] if rest and not rest[0].startswith("--") else None
        if not equals and following is None:
            if name in known:
                raise UsageError(f"a value is missing; write --{name}=VALUE.\n{_hint(command)}", name)
            given[name] = True
            continue
        given[name] = value if equals else rest.pop(0)
    return given, stray


def _value(field: HparamField, text: str | bool, built: Groups, run_of: RunOf | None) -> Any:
    if bool in field.types and isinstance(text, bool):
        return text
    if bool in field.types:
        raise _takes_no_value(field.name)
    if isinstance(text, bool):
        raise UsageError(f"a value is missing; write --{field.name}=VALUE.", field.name)
    if text == "None" and type(None) in field.types:
        return None
    if RunRef in field.types:
        assert run_of is not None, f"the command does not say which runs --{field.name} names"
        try:
            return run_of(text, built)
        except UsageError as error:
            raise UsageError(error.reason, field.name, *error.hparams) from error
    for kind, words in ((int, "a whole number"), (float, "a number")):
        if kind in field.types:
            try:
                return kind(text)
            except ValueError as error:
                raise UsageError(f"'{text}' is not a valid value; it takes {words}.", field.name) from error
    return text


def _takes_no_value(name: str) -> UsageError:
    return UsageError(f"it takes no value; write --{name}, or --no_{name} for the opposite.", name)


def _unknown(name: str, argv: Sequence[str], kind: Any, known: Sequence[str], command: str) -> UsageError:
    owners = [f"--{owner}" for group in groups_of(kind).values() for owner in group.owners_of(name)]
    if not owners and name in ExamplesHparams.names() and command == "train":
        owners = ["branches that prune, such as `branch train oneshot`"]
    answer = None if owners else answer_to_flag(name, given_in(argv), known, command)
    if answer is not None:
        return UsageError(answer)
    suggestion = did_you_mean(f"--{name}", [f"--{other}" for other in (*known, PLUGIN)])
    where = f" It is a flag of {', '.join(owners)}." if owners else suggestion
    return UsageError(f"There is no flag --{name} here.{where}\n{_hint(command)}")


def _hint(command: str) -> str:
    return f"See: {PROGRAM} {command} --help"
