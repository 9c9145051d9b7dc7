"""OpenLTH's commands and flags that have another name here, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COMMANDS: Mapping[str, tuple[str, ...]] = {"lottery_branch": ("branch", "lottery")}
"""The words of a command here, by OpenLTH's name."""


@dataclass(frozen=True)
class Spelling:
    """A flag of OpenLTH's."""

    flag: str
    becomes: str | None = None
    """The argument here, with {value} for its value; None where nothing takes its place."""
    values: Mapping[str, str] | None = None
    """What the values that have another name are called here."""
    only: tuple[str, ...] = ()
    """The values that are meant; others are left as they are. None given: all."""
    takes_value: bool = True
    of: tuple[str, ...] = ()
    """The words that the command begins with; by default, any command."""
    note: str = ""
    """What people are told."""


FLAGS: tuple[Spelling, ...] = (
    Spelling("pruning_strategy", "--strategy={value}", values={"sparse_global": "magnitude"}),
    Spelling(
        "strategy",
        "--randomize={value}",
        only=("layerwise", "global", "even", "identity"),
        of=("branch", "lottery", "randomly_prune"),
    ),
    Spelling("apex_fp16", "--precision=fp16", takes_value=False),
    Spelling("pretrain_apex_fp16", "--pretrain_precision=fp16", takes_value=False),
    # Here --pretrain_training_steps alone asks for a pretraining; without it OpenLTH has none either.
    Spelling("pretrain", takes_value=False, of=("lottery",)),
    Spelling("pretrain", takes_value=False, of=("branch", "lottery")),
)


def translated(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return arguments with OpenLTH's commands and flags in this project's words, and notes for people."""
    words = [*COMMANDS.get(argv[0], (argv[0],)), *argv[1:]] if argv else []
    known = [spelling for spelling in FLAGS if tuple(words[: len(spelling.of)]) == spelling.of]
    found: list[str] = []
    notes: list[str] = []
    while words:
        argument = words.pop(0)
        name, equals, value = argument.partition("=")
        spelling = next((each for each in known if name == f"--{each.flag}"), None)
        if spelling is None or (equals and not spelling.takes_value):
            found.append(argument)
            continue
        if spelling.takes_value and not equals:
            if not words or words[0].startswith("--"):  # the value is missing, which the command says
                found.append(argument)
                continue
            value = words.pop(0)
        if spelling.only and value not in spelling.only:
            found.append(f"{name}={value}")
            continue
        if spelling.becomes is not None:
            found.append(spelling.becomes.format(value=(spelling.values or {}).get(value, value)))
        notes += [spelling.note] if spelling.note else []
    return found, notes
