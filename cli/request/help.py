"""The help of a command: the flags most used on two screens, and all others by group. It imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from foundations.description.desc import RunRef
from foundations.description.hparams import HparamField, Hparams, fields_of, folded_of, help_of
from foundations.errors import UsageError, choose_from
from foundations.program import PROGRAM
from foundations.registry import plugin_that_declares

if TYPE_CHECKING:
    import argparse

PLUGIN = "plugin"
"""The flag that every command takes; it is taken out of the arguments before the others are read."""
OF_EVERY_COMMAND = (PLUGIN, "help")
"""The flags that are read before all others."""
_PLUGIN_HELP = (
    "A Python file of your own that declares methods, datasets, networks or branches for this command to use. Repeat "
    "the flag for more files. OPEN_PRUNE_PLUGINS lists files for every command."
)
ALL = "all"
TWO_SCREENS = 80
"""Lines. Help that is longer shows the flags most used; `--help=all` shows all."""
MOST_USED = frozenset(
    (
        *("dataset_name", "batch_size", "model_name", "optimizer_name", "lr", "training_steps", "milestone_steps"),
        *("weight_decay", "technique", "root", "default_hparams", "replicate", "dry_run", "quiet", "platform"),
        *("device", "executor", "strategy", "density", "compression", "allocation"),
        *("levels", "pruning_fraction", "rewinding_steps", "prune_step", "state_step", "grid", "when", "retry"),
        *("weight_save_steps", "evaluate_only_at_end"),
    )
)
LEVELS = frozenset(("density", "compression"))
"""Flags that a lottery does not need: its levels determine the densities."""
_MOST_LETTERS = (300, 104, 52)
"""Length limits for the help texts of the flags most used: the first with which all fit on two screens counts."""
_FEWEST_LETTERS = 8
"""The least length of a shortened help text."""
_FLAGS = ("-h", "--help")


@dataclass(frozen=True)
class Section:
    """Flags under one heading."""

    name: str
    """The name that `--help=` takes."""
    title: str
    fields: Sequence[HparamField]
    texts: Mapping[str, str]
    selected: frozenset[str] = frozenset()
    """Flags that a given value adds, such as those of a technique."""
    prefix: str = ""
    """The prefix of its flags, if they override those of another group and are shown as one."""
    choices: Mapping[str, type[Hparams]] = field(default_factory=dict)
    """Values that add flags to the group, such as technique=rigl, and the groups with them."""


def split_help(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the requested help, and the arguments without those that ask for it.

    The help is a group's name, `all`, an empty text for the usual help, or None if none is requested.
    """
    asked, others, rest = None, [], list(argv)
    while rest:
        argument = rest.pop(0)
        flag, equals, group = argument.partition("=")
        if flag not in _FLAGS:
            others.append(argument)
            continue
        if not equals and rest and not rest[0].startswith("-"):
            group = rest.pop(0)
        asked = group if asked is None else asked
    return asked, others


def help_text(
    summary: str,
    declared: Mapping[str, type[Hparams]],
    groups: Mapping[str, type[Hparams]],
    command: str,
    values: Mapping[str, Any],
    asked: str,
) -> str:
    """Return the help of a command.

    summary: the text above the flags. declared: the command's groups of flags. groups: these, as some values select
    them. values: defaults by name.
    asked: `all`, the name of a group or of a value that adds flags, or nothing.
    Raises: UsageError for another name, which lists the groups.
    """
    sections = [each for name, group in groups.items() for each in _sections(name, declared[name], group)]
    head = f"{PROGRAM} {command} [FLAGS]", summary.replace("%", "%%")
    whole = _written(head, sections, values)
    if asked == ALL or (not asked and len(whole.splitlines()) <= TWO_SCREENS):
        return whole
    return _most_used(head, sections, values) if not asked else _of_group(head, sections, values, asked)


def _sections(name: str, declared: type[Hparams], group: type[Hparams]) -> list[Section]:
    """Return the sections of a group: its own flags, then its overrides of another description, by prefix."""
    texts, folded = help_of(group), folded_of(group)
    hidden = {each for names in folded.values() for each in names}
    fields = fields_of(group)
    selected = frozenset(group.names()) - frozenset(declared.names())
    own = [each for each in fields if each.name not in hidden]
    found = [Section(name, title_of(group), own, texts, selected, choices=declared.owners())]
    for prefix, names in folded.items():
        title = f"The flags of a training and its data with {prefix}, in place of those without"
        found.append(
            Section(prefix.strip("_"), title, [each for each in fields if each.name in names], texts, prefix=prefix)
        )
    return [section for section in found if section.fields]


def _written(head: tuple[str, str], sections: Sequence[Section], values: Mapping[str, Any], letters: int = 0) -> str:
    """Return a page of help. head: usage and description. letters: the limit of each text; 0 for none."""
    import argparse  # here, as most commands print no help

    page = argparse.HelpFormatter("", max_help_position=28 if letters else 24)
    page.add_usage(head[0], [], [])
    page.add_text(head[1])
    for section in sections:
        page.start_section(section.title)
        for each in section.fields:
            most = 0 if each.name in section.selected else letters
            text = _help_of(each, section.texts[each.name], values.get(each.name, each.default), most)
            page.add_argument(_action(each.name, text, None if bool in each.types else _metavar(each)))
        page.end_section()
    page.start_section("Of every command")
    page.add_argument(_action(PLUGIN, "Load a Python file of your own." if letters else _PLUGIN_HELP, "FILE"))
    page.end_section()
    return page.format_help().rstrip()


def _action(name: str, text: str, metavar: str | None) -> argparse.Action:
    """Return a flag as argparse formats it. metavar: None for a flag without a value."""
    import argparse

    nargs = 0 if metavar is None else None
    return argparse.Action([f"--{name}"], name, nargs=nargs, metavar=metavar, help=text.replace("%", "%%"))


def _most_used(head: tuple[str, str], sections: Sequence[Section], values: Mapping[str, Any]) -> str:
    """Return the help of the flags most used and those that given values add, and a list of the others."""
    import shutil

    shown, rest = [], []
    names = {each.name for section in sections for each in section.fields}
    most_used = MOST_USED - (LEVELS if "levels" in names else set())
    for section in sections:
        used = [each for each in section.fields if each.name in most_used | section.selected and not section.prefix]
        left = [each.name for each in section.fields if each not in used]
        adding = _adding(section)
        if used:
            shown.append(replace(section, fields=used))
        if left or adding:
            rest.append((section.name, [f"--{section.prefix}..."] if section.prefix else left, adding))
    column = max(len(name) for name, _, _ in rest) + 4
    width = shutil.get_terminal_size().columns - 2 - column
    lines = ["", "", f"More flags: --help=GROUP for those of a group, --help={ALL} for all"]
    for name, left, adding in rest:
        lines.append(f"  {name:<{column - 2}}{_listed(left, width)}" if left else f"  {name}")
        if adding:
            flag = adding[0].partition("=")[0]
            lines.append(" " * column + _listed([each.partition("=")[2] for each in adding], width, f"with --{flag}: "))
    for letters in _MOST_LETTERS:
        page = _written(head, shown, values, letters) + "\n".join(lines)
        if len(page.splitlines()) <= TWO_SCREENS:
            break
    return page


def _listed(names: Sequence[str], width: int, start: str = "") -> str:
    """Return as many names as fit in a line."""
    for number in range(len(names), 0, -1):
        text = start + ", ".join([*names[:number], *(["..."] if number < len(names) else [])])
        if len(text) <= width:
            return text
    return f"{start}..."


def _adding(section: Section) -> list[str]:
    """Return the values that add flags to a group, those of plug-ins first."""
    found = [value for value in section.choices if _own_flags(section, value)]
    return sorted(found, key=lambda value: plugin_that_declares(section.choices[value]) is None)


def _of_group(head: tuple[str, str], sections: Sequence[Section], values: Mapping[str, Any], asked: str) -> str:
    """Return the flags of one group, with those that values add to it, or the flags of one such value.

    Raises: UsageError where there is no such group.
    """
    found = [section for section in sections if section.name == asked]
    adding = [(section, value) for section in sections for value in _adding(section)]
    of_value = [(section, value) for section, value in adding if asked in (value, value.partition("=")[2])]
    if not found and not of_value:
        names = [ALL, *(section.name for section in sections)]
        raise UsageError(f"'{asked}' is not a group of flags{choose_from(asked, names)}", "help")
    for section, value in of_value or [(section, value) for section, value in adding if section in found]:
        group = section.choices[value]
        own = [each for each in fields_of(group) if each.name in _own_flags(section, value)]
        found.append(Section(value, f"With --{value}", own, help_of(group)))
    return _written((head[0], ""), found, values)


def _own_flags(section: Section, value: str) -> list[str]:
    """Return the flags that a value adds to a group."""
    known = {each.name for each in section.fields} - section.selected
    return [name for name in section.choices[value].names() if name not in known]


def title_of(group: type[Hparams]) -> str:
    """Return the heading of a group of flags."""
    return " ".join((group.__doc__ or "").split("\n\n")[0].split()).rstrip(".")


def _help_of(each: HparamField, words: str, default: Any, letters: int) -> str:
    """Return the help of a flag: its text, choices and default."""
    end = "" if default in (None, False) else f" (default: {default})"
    if letters:
        return _shortened(words, letters - len(end)) + end
    if not set(each.choices) <= set(re.findall(r"\w+", words)):
        words += f" Choose from {', '.join(each.choices)}."
    return words + end


def _shortened(text: str, letters: int) -> str:
    """Return the first sentence of a help text or, if that is long, the part before a colon or the like."""
    text = re.split(r"(?<=\.)\s+(?=[A-Z0-9-])", text, maxsplit=1)[0]
    for end in (": ", "; ", " (", ", such as ", ", not ", ", which "):
        first, _, rest = text.partition(end)
        if len(text) > letters and len(first) > _FEWEST_LETTERS and not rest.startswith("the command"):
            text = first
    return text.rstrip(".") + "."


def _metavar(field: HparamField) -> str:
    if RunRef in field.types:
        return "RUN"
    if field.rule.is_step or field.rule.is_step_list:
        return "STEP" if field.rule.is_step else "STEPS"
    return next(word for kind, word in ((int, "INT"), (float, "FLOAT"), (str, "TEXT")) if kind in field.types)
