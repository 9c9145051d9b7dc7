"""Parsing of arguments into groups of hyperparameters, and requests for help."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from cli.request.foreign_words import is_short_flag
from cli.request.help import OF_EVERY_COMMAND, PLUGIN, help_text, split_help, title_of
from foundations.description.desc import RunRef
from foundations.description.hparams import HparamField, Hparams, fields_of, help_of
from foundations.environment import Environment
from foundations.errors import UsageError, did_you_mean
from foundations.program import PROGRAM

Groups = dict[str, Hparams]
RunOf = Callable[[str, Groups], RunRef]
"""(text of a flag that names a run, the groups before its own) -> the run."""


_TRUTHS = ("True", "False", "true", "false")
"""Values that flags of other programs take and switches here do not."""
_GIVEN_ONCE = ("where",)
"""Flags that may not be repeated: if the last one counted, `rm` would remove more runs than all of them select."""

_PRUNING = "branches that prune, such as `branch train oneshot`"


class HelpRequested(Exception):
    """`--help` was given; the text is the help."""


class Flags:
    """The flags of a command: groups of hyperparameters by name.

    A flag is `--` and a field's name; `--name=value` and `--name value` both work, and a bool is `--name`.
    """

    def __init__(self, command: str, summary: str, /, **groups: type[Hparams]) -> None:
        """Take the command's words, the text of its help, and the groups."""
        self.command, self.summary, self.groups = command, summary, groups

    @functools.cached_property
    def fields(self) -> dict[str, HparamField]:
        """The flags by name, without those that a value of another flag adds."""
        return {field.name: field for group in self.groups.values() for field in fields_of(group)}

    def read(self, argv: Sequence[str]) -> tuple[list[str], SimpleNamespace]:
        """Return the positional arguments, and the groups. Raises: as `parse`."""
        names, rest = positional(argv, self)
        return names, self.parse(rest)

    def parse(
        self, argv: Sequence[str], preset: Mapping[str, Any] | None = None, run_of: RunOf | None = None
    ) -> SimpleNamespace:
        """Return the groups of a command line, as attributes.

        preset: values by name that the arguments override. run_of: parses the texts that name runs.
        Raises: UsageError that names the flag and what is valid; HelpRequested.
        """
        asked, argv = split_help(argv)
        given, stray = self._given(argv)
        values = {**(preset or {}), **given}
        groups = {name: group.group_for(values) for name, group in self.groups.items()}
        if asked is not None:
            raise HelpRequested(help_text(self.summary, self.groups, groups, self.command, values, asked))
        self.refuse_shared_names(tuple(groups.items()))
        for name in given:
            if not any(name in _fields_by_name(group) for group in groups.values()):
                raise self._unknown(name, argv, [each for group in groups.values() for each in group.names()])
        if stray:
            raise UsageError(f"'{stray}' is not expected here; flags are written --name=value.\n{self._hint()}")
        built: Groups = {}
        for name, group in groups.items():
            own = _fields_by_name(group)
            chosen = {hparam: value for hparam, value in (preset or {}).items() if hparam in own}
            for hparam in sorted(own.keys() & given.keys()):
                chosen[hparam] = _value(own[hparam], given[hparam], built, run_of)
            built[name] = _group(group, tuple((hparam, type(value), value) for hparam, value in chosen.items()))
        return SimpleNamespace(**built)

    @functools.lru_cache(maxsize=256)  # noqa: B019 - the flags of a command live as long as the process
    def refuse_shared_names(self, named_groups: tuple[tuple[str, type[Hparams]], ...]) -> None:
        """Raise UsageError where two groups, or one and every command, have a flag of the same name.

        A plug-in may cause it, and the flag would set both. A flag that both inherit from one class, with the same
        help, is one flag, such as the schedule of gradual pruning. named_groups: the classes of the groups, by name.
        """
        groups = dict(named_groups)
        holders: dict[str, list[str]] = {}
        for name, group in groups.items():
            for field in group.names():
                holders.setdefault(field, []).append(name)
        for field, names in holders.items():
            of_all = ["every command"] if field in OF_EVERY_COMMAND else []
            if of_all or (len(names) > 1 and len({help_of(groups[name])[field] for name in names}) > 1):
                words = of_all
                for name in names:
                    declared = self.groups[name]
                    owners = [] if field in declared.names() else declared.owners_of(field)
                    words.append(" and ".join(f"--{owner}" for owner in owners) or f"'{title_of(groups[name])}'")
                raise UsageError(
                    f"this is a flag of {' and of '.join(words)}, and would set both. Rename the option of the "
                    "plug-in: begin it with the name of what it belongs to.",
                    field,
                )

    def _given(self, argv: Sequence[str]) -> tuple[dict[str, str | bool], str]:
        """Return the text of each given flag, or whether a bool was given; and the first argument that is not a flag's.

        A flag that is not known yet, because another flag selects its group, takes a value unless the next
        argument is a flag.
        """
        given: dict[str, str | bool] = {}
        stray, rest, known = "", list(argv), self.fields
        while rest:
            argument = rest.pop(0)
            flag, equals, value = argument.partition("=")
            name = _name(flag)
            if not name and is_short_flag(flag):
                name = flag  # of another code base; it is answered as an unknown one
            if not name:
                stray = stray or argument
                continue
            plain = plain_name(name, known)
            if plain in known and _is_switch(known[plain]):
                if equals or (rest and rest[0] in _TRUTHS):
                    raise _takes_no_value(name.removeprefix("no_"))
                given[plain] = name == plain
                continue
            if name in given and name in _GIVEN_ONCE:
                raise UsageError("it is given twice; write one, with commas between the conditions.", name)
            if not equals and (not rest or rest[0].startswith("--")):
                if name in known:
                    raise UsageError(f"a value is missing; write --{name}=VALUE.\n{self._hint()}", name)
                given[name] = True
                continue
            given[name] = value if equals else rest.pop(0)
        return given, stray

    def _unknown(self, name: str, argv: Sequence[str], known: Sequence[str]) -> UsageError:
        from cli.request.foreign_answers import answer_to_flag, given_in
        from pruning.hparams import ExamplesHparams

        owners = [f"--{owner}" for group in self.groups.values() for owner in group.owners_of(name)]
        of_pruning = ExamplesHparams.names() if self.command == "train" else ()
        if not owners and name in of_pruning:
            owners = [_PRUNING]
        is_ours = bool(owners) or name in ExamplesHparams.names()  # of another command
        answer = None if is_ours else answer_to_flag(name, given_in(argv), known, self.command)
        if answer is not None:
            return UsageError(answer)
        suggestion = did_you_mean(f"--{name}", [f"--{other}" for other in (*known, PLUGIN)])
        if not owners and not suggestion and (meant := did_you_mean(f"--{name}", [f"--{n}" for n in of_pruning])):
            suggestion = f"{meant} It is a flag of {_PRUNING}."
        where = f" It is a flag of {', '.join(owners)}." if owners else suggestion
        return UsageError(f"There is no flag --{name} here.{where}\n{self._hint()}")

    def _hint(self) -> str:
        return f"See: {PROGRAM} {self.command} --help"


def command(**groups: type[Hparams]) -> Callable[[Callable[..., int]], Callable[[Sequence[str], Environment], int]]:
    """Make a function a command: its name is the command's, its docstring the help.

    It is called with the environment, each of the groups of flags and, if it takes `names`, the positional arguments.
    """

    def declared(work: Callable[..., int]) -> Callable[[Sequence[str], Environment], int]:
        flags = Flags(work.__name__.replace("_", "-"), work.__doc__ or "", **groups)

        @functools.wraps(work)
        def run(argv: Sequence[str], environment: Environment) -> int:
            if "names" not in work.__annotations__:
                return work(environment=environment, **vars(flags.parse(argv)))
            names, given = flags.read(argv)
            return work(names=names, environment=environment, **vars(given))

        return run

    return declared


@functools.lru_cache(maxsize=1024)
def _group(group: type[Hparams], values: tuple[tuple[str, type, Any], ...]) -> Hparams:
    """Return a group with some values, cached: the commands of a sweep share most groups."""
    return group(**{name: value for name, _, value in values})


def flags_of(group: Hparams) -> list[str]:
    """Return the arguments for the values of a group, without defaults."""
    defaults = {field.name: field.default for field in fields_of(type(group))}
    return arguments_of({name: value for name, value in group.values().items() if value != defaults[name]})


def arguments_of(values: Mapping[str, Any]) -> list[str]:
    """Return the arguments for some flags: `--name=value`, and `--name` or `--no_name` for those without a value."""
    return [
        f"--{'' if value else 'no_'}{name}" if isinstance(value, bool) else f"--{name}={value}"
        for name, value in values.items()
    ]


def positional(argv: Sequence[str], flags: Flags | None = None) -> tuple[list[str], list[str]]:
    """Split positional arguments from the rest: all of them, or without `flags` the leading ones only.

    flags: those of the command, which determine whether the argument after a flag is its value.
    """
    count = next((i for i, argument in enumerate(argv) if argument.startswith("-")), len(argv))
    names, rest = list(argv[:count]), list(argv[count:])
    if flags is None:
        return names, rest
    known, others = flags.fields, list[str]()

    def takes_value(name: str) -> bool:
        plain = name if name in known else name.removeprefix("no_")
        return not (plain in known and _is_switch(known[plain]))

    for argument, _, value in _arguments(rest, takes_value):
        if argument.startswith("-"):
            others += [argument] if value is None or "=" in argument else [argument, value]
        else:
            names.append(argument)
    return names, others


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Return the last text given for a flag, or None if it is not given."""
    found = None
    for argument, following in itertools.zip_longest(argv, argv[1:]):
        name, equals, value = argument.partition("=")
        if _name(name) == flag:
            found = value if equals else following
    return found


def is_given(flag: str, argv: Sequence[str]) -> bool:
    """Return whether a flag is given."""
    return any(_name(argument.partition("=")[0]) == flag for argument in argv)


def taken_out(flag: str, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return every text given for a flag that may be repeated, and the other arguments. Raises: UsageError."""
    found, others = [], []
    for argument, name, value in _arguments(argv, flag.__eq__):
        if name != flag:
            others.append(argument)
        elif not value:
            raise UsageError(f"a value is missing; write --{flag}=VALUE.", flag)
        else:
            found.append(value)
    return found, others


def separated(argv: Sequence[str], known: Mapping[str, HparamField]) -> tuple[list[str], list[str]]:
    """Split arguments into some flags with their values, and the others."""
    found, others = [], []
    for argument, name, value in _arguments(argv, lambda name: name in known and not _is_switch(known[name])):
        if plain_name(name, known) in known:
            found.append(f"--{name}" if value is None else f"--{name}={value}")
        else:
            others.append(argument)
    return found, others


def plain_name(name: str, known: Mapping[str, HparamField]) -> str:
    """Return the name of the known flag that `no_name` turns off; other names as they are."""
    off = name.removeprefix("no_")
    return off if name not in known and off in known and _is_switch(known[off]) else name


def _arguments(argv: Iterable[str], takes_value: Callable[[str], bool]) -> Iterator[tuple[str, str, str | None]]:
    """Yield each argument, the name of the flag that it is, if any, and the flag's value, if any.

    The value follows an equals sign or, where the flag takes one, is the next argument, unless that is a flag.
    """
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        name = _name(flag)
        if name and not equals and takes_value(name) and rest and not rest[0].startswith("--"):
            yield argument, name, rest.pop(0)
        else:
            yield argument, name, value if equals else None


@functools.cache
def _fields_by_name(group: type[Hparams]) -> dict[str, HparamField]:
    return {field.name: field for field in fields_of(group)}


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_") if flag.startswith("--") else ""


def _is_switch(field: HparamField) -> bool:
    """Return whether the flag takes no value."""
    return bool in field.types


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
