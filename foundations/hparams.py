"""Hyperparameters: frozen dataclasses that are flags, documentation and address at once.

A field is declared once:

    @dataclass(frozen=True, kw_only=True)
    class TrainingHparams(Hparams):
        lr: float = hparam(0.1, above=0)
        \"\"\"Learning rate.\"\"\"

Its name is the flag, its docstring the help, its bounds the validation, and `hparam` says how it stands in the
address: a field is written there only where it differs from its *elided* value. That value is the declared default on
the day the field is added and never changes afterwards: were it to follow a new default, the results of the old default
would answer for the new one. So when a default must change, write `hparam(new, elided=old)`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from dataclasses_json import DataClassJsonMixin

from foundations.errors import UsageError, did_you_mean
from foundations.step import Step, parse_steps


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ALWAYS_WRITTEN = _Sentinel("ALWAYS_WRITTEN")
"""As `elided`: the field stands in every address, so its declared default may change freely."""
_AS_DECLARED = _Sentinel("_AS_DECLARED")


@dataclass(frozen=True)
class _Rule:
    """What is possible for a field, and how it is written in an address."""

    elided: Any
    choices: tuple[str, ...] | None
    at_least: float | None
    at_most: float | None
    above: float | None
    below: float | None
    is_step: bool
    is_step_list: bool
    is_unordered: bool


def hparam(
    default: Any,
    *,
    elided: Any = _AS_DECLARED,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    step: bool = False,
    step_list: bool = False,
    unordered: bool = False,
) -> Any:
    """Declare a hyperparameter.

    elided: the value at which the field is left out of an address, frozen for good (see the module's docstring).
    choices: the possible texts. at_least, at_most, above, below: bounds of a number.
    step, step_list: a text that is one step or a list of steps; in addresses, as iterations.
    unordered: a comma-separated text whose order means nothing; in addresses, sorted and without repetition.
    """
    elided = default if elided is _AS_DECLARED else elided
    rule = _Rule(elided, choices, at_least, at_most, above, below, step, step_list, unordered)
    return dataclasses.field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, kw_only=True)
class Hparams(DataClassJsonMixin):
    """Base of all groups of hyperparameters.

    Every field must be declared with `hparam` and be a str, int, float, bool, or one of these or None. Construction
    validates each value by itself; what depends on several fields goes into `validate`.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), self.types()[field.name], rule_of(field))
        self.validate()

    def validate(self) -> None:
        """Check what depends on several fields. Raises: UsageError that names the flags and what is possible."""

    @classmethod
    @functools.cache
    def types(cls) -> dict[str, Any]:
        """Return the declared type of each field, by name."""
        hints = typing.get_type_hints(cls)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

    def normalized(self, iterations_per_epoch: int) -> Self:
        """Return these hyperparameters with one spelling for each meaning, the one that addresses and jobs use.

        Numbers get their declared type, steps become iterations (`80ep` is `31280it` at 391 iterations an epoch), lists
        without an order are sorted. Subclasses add what is theirs and call this.
        """
        values = {field.name: self._normalized(field, iterations_per_epoch) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **values)

    def canonical(self) -> dict[str, Any]:
        """Return the fields that stand in an address: those that differ from their elided value. Normalize first."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value != elided_values(type(self))[name]}

    def _normalized(self, field: dataclasses.Field[Any], iterations_per_epoch: int) -> Any:
        value, rule = getattr(self, field.name), rule_of(field)
        if value is None:
            return None
        if rule.is_step:
            return str(Step.parse(value, iterations_per_epoch, field.name))
        if rule.is_step_list:
            return ",".join(str(step) for step in parse_steps(value, iterations_per_epoch, field.name)) or None
        if rule.is_unordered:
            return ",".join(sorted(set(filter(None, value.split(","))))) or None
        kind = self.types()[field.name]
        if float in (typing.get_args(kind) or (kind,)):
            return float(value) + 0.0  # -0.0 is 0.0
        return value

    @classmethod
    def flags(cls) -> list[str]:
        """Return the names of the fields, which are the names of the flags."""
        return [field.name for field in dataclasses.fields(cls)]


def optional_copy(name: str, groups: Sequence[type[Hparams]], prefix: str, summary: str) -> type[Hparams]:
    """Return a group with every field of some groups under a prefix, each None where it is not given.

    For flags that replace some of another description's hyperparameters. `given` reads them.
    """
    fields, lines = [], [summary, "", "Args:"]
    for group in groups:
        for field in dataclasses.fields(group):
            rule = dataclasses.replace(rule_of(field), elided=None)
            hint = group.types()[field.name] | None
            fields.append((prefix + field.name, hint, dataclasses.field(default=None, metadata={"rule": rule})))
            lines.append(f"    {prefix + field.name}: In place of --{field.name}.")
    made = dataclasses.make_dataclass(name, fields, bases=(Hparams,), frozen=True, kw_only=True)
    made.__doc__ = "\n".join(lines)
    return made


def given(flags: Hparams, group: type[Hparams], prefix: str) -> dict[str, Any]:
    """Return the values that an `optional_copy` was given for the fields of a group."""
    values = {name: getattr(flags, prefix + name) for name in group.flags()}
    return {name: value for name, value in values.items() if value is not None}


def rule_of(field: dataclasses.Field[Any]) -> _Rule:
    """Return what `hparam` recorded of a field. Raises: TypeError for a field declared otherwise."""
    rule = field.metadata.get("rule")
    if not isinstance(rule, _Rule):
        raise TypeError(f"the field '{field.name}' is not declared with hparam()")
    return rule


def elided_values(group: type[Hparams]) -> dict[str, Any]:
    """Return, by field, the value at which it is left out of an address (or ALWAYS_WRITTEN)."""
    return {field.name: rule_of(field).elided for field in dataclasses.fields(group)}


def _check(name: str, value: Any, kind: Any, rule: _Rule) -> None:
    allowed = typing.get_args(kind) or (kind,)
    if float in allowed:
        allowed = (*allowed, int)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        words = " or ".join("nothing" if t is type(None) else t.__name__ for t in allowed)
        raise UsageError(f"--{name}: {value!r} is not possible; it takes {words}.")
    if value is None or isinstance(value, bool):
        return
    if rule.choices is not None and value not in rule.choices:
        raise UsageError(
            f"--{name}: '{value}' is not possible.{did_you_mean(str(value), rule.choices)} "
            f"Possible: {', '.join(rule.choices)}."
        )
    if isinstance(value, float | int):
        _check_bounds(name, value, rule)


def _check_bounds(name: str, value: float, rule: _Rule) -> None:
    if not math.isfinite(value):
        raise UsageError(f"--{name}: {value} is not possible; it takes a finite number.")
    bounds = [
        (rule.at_least, "at least", operator.ge),
        (rule.above, "above", operator.gt),
        (rule.at_most, "at most", operator.le),
        (rule.below, "below", operator.lt),
    ]
    if any(bound is not None and not holds(value, bound) for bound, _, holds in bounds):
        words = " and ".join(f"{word} {bound:g}" for bound, word, _ in bounds if bound is not None)
        raise UsageError(f"--{name}: {value} is not possible; it must be {words}.")
