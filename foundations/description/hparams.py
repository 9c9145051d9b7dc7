"""Hyperparameters: frozen dataclasses that are flags, documentation and address at once.

A field is declared once:

    @dataclass(frozen=True, kw_only=True)
    class TrainingHparams(Hparams):
        lr: float = hparam(0.1, above=0)
        \"\"\"Learning rate.\"\"\"

Its name is the flag, its docstring the help, its bounds the validation, and `hparam` says how it appears in the
address: a field is written there only where it differs from its `elided` value. That value is the declared default on
the day the field is added and never changes afterwards: if it followed a new default, results of the old default would
be taken for results of the new one. So when a default must change, write `hparam(new, elided=old)`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import linecache
import math
import operator
import sys
import textwrap
import typing
from abc import ABC
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import NoneType
from typing import Any, Self, TypeVar

from foundations.description.step import Step, parse_steps
from foundations.errors import UsageError, invalid
from foundations.registry import Plugin, Registry, plugin_that_declares

Group = TypeVar("Group", bound="Hparams")
ALWAYS_WRITTEN = object()
"""The `elided` value of a field that is part of every address, so that its declared default may change freely."""


@dataclass(frozen=True)
class _Rule:
    """The valid values of a field, and its form in an address."""

    elided: Any
    choices: Sequence[str] | Registry[Any] | None
    bounds: tuple[tuple[float, str, Callable[[float, float], bool]], ...]
    """The bounds of a number: each with the word for it, and the comparison that must hold."""
    is_step: bool
    is_step_list: bool
    is_unordered: bool
    help: str


def hparam(
    default: Any,
    *,
    elided: Any = ...,
    choices: Sequence[str] | Registry[Any] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    step: bool = False,
    step_list: bool = False,
    unordered: bool = False,
    help: str = "",
) -> Any:
    """Declare a hyperparameter.

    `elided`: the value that is omitted from addresses, by default that of `default`; it never changes.
    choices: the valid texts, or the registry of the names. at_least, at_most, above, below: bounds of a number.
    step, step_list: a text that is one step or a list of steps; in addresses, as iterations.
    unordered: a comma-separated text whose order means nothing; in addresses, sorted and without repetition.
    help: for fields of generated classes, which have no docstrings.
    """
    known = (
        (at_least, "at least", operator.ge),
        (above, "above", operator.gt),
        (at_most, "at most", operator.le),
        (below, "below", operator.lt),
    )
    bounds = tuple((bound, word, holds) for bound, word, holds in known if bound is not None)
    rule = _Rule(default if elided is ... else elided, choices, bounds, step, step_list, unordered, help)
    return dataclasses.field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class HparamField:
    """A declared field of a group; `fields_of` reads it once per class."""

    name: str
    types: tuple[type, ...]
    default: Any
    rule: _Rule

    @cached_property
    def is_number(self) -> bool:
        """Whether the field takes numbers with decimals."""
        return float in self.types

    @property
    def choices(self) -> Sequence[str]:
        """The valid texts, if they are declared; of a registry, the spellings."""
        choices = self.rule.choices or ()
        return choices.spellings() if isinstance(choices, Registry) else choices

    def check(self, value: Any) -> None:
        """Check a value by itself. Raises: UsageError that names the valid values."""
        allowed = (*self.types, int) if self.is_number else self.types
        if not isinstance(value, allowed) or (type(value) is bool and bool not in allowed):
            words = " or ".join("nothing" if kind is NoneType else kind.__name__ for kind in allowed)
            raise UsageError(f"{value!r} is not a valid value; it takes {words}.", self.name)
        is_list = self.rule.is_unordered or self.rule.is_step_list
        if is_list and NoneType not in self.types and isinstance(value, str) and not value.strip(", "):
            raise UsageError(f"{value!r} names nothing.", self.name)
        choices = self.rule.choices
        if value is not None and choices is not None and value not in choices:
            if isinstance(choices, Registry):
                raise UsageError(choices.unknown(str(value)).reason, self.name)
            raise invalid(value, self.name, choices)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise UsageError(f"{value} is not a valid value; it takes a finite number.", self.name)
            if self.is_number and abs(value) > _LARGEST:
                raise UsageError(f"{value} is not a valid value; float32 ends at {_LARGEST:.2g}.", self.name)
            if not all(holds(value, bound) for bound, _, holds in self.rule.bounds):
                words = " and ".join(f"{word} {bound:g}" for bound, word, _ in self.rule.bounds)
                raise UsageError(f"{value} is not a valid value; it must be {words}.", self.name)

    def normalized(self, value: Any, iterations_per_epoch: int) -> Any:
        """Return the canonical form of a value."""
        if value is None:
            return None
        if self.is_number:
            return float(value) + 0.0  # -0.0 is 0.0
        if self.rule.is_step:
            return str(Step.parse(value, iterations_per_epoch, self.name))
        if self.rule.is_step_list:
            steps = ",".join(str(step) for step in parse_steps(value, iterations_per_epoch, self.name))
            return steps or (None if self.rule.elided is None else "")  # no steps may differ from the default
        if self.rule.is_unordered:
            return ",".join(sorted(set(filter(None, value.split(","))))) or None
        return value


_LARGEST = 3.4028234663852886e38
"""The largest number of float32, in which networks compute."""


@dataclass(frozen=True, kw_only=True)
class Hparams(ABC):  # noqa: B024 (without this metaclass, mypy takes its subclasses for unhashable arguments of caches)
    """Base of all groups of hyperparameters.

    Every field must be declared with `hparam` and be a str, int, float, bool, or one of these or None. Construction
    validates each value by itself; what depends on several fields goes into `validate`.
    """

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            field.check(getattr(self, field.name))
        self.validate()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the values. The process that unpickles them generates a generated class again."""
        kind = next(kind for kind in type(self).__mro__ if "_is_generated" not in kind.__dict__)
        return _unchecked, (kind, self.values(), kind is not type(self))

    def validate(self) -> None:
        """Check what depends on several fields. Raises: UsageError that names the fields and what is valid."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:  # noqa: ARG003 (subclasses look at the values)
        """Return the class to build from some values: a subclass, where one of them selects more fields."""
        return cls

    @classmethod
    def owners(cls) -> Mapping[str, type[Hparams]]:
        """Return the values that select a group with more fields, such as `technique=rigl`, and these groups.

        Groups whose `group_for` returns others override this, for help and errors.
        """
        return {}

    @classmethod
    def owners_of(cls, name: str) -> list[str]:
        """Return the choices that add this field, such as `technique=rigl`, for error messages."""
        return [owner for owner, group in cls.owners().items() if name in group.names()]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Build the group from the values that are its fields; ignore values of other groups."""
        kind = cls.group_for(values)
        names = kind.names()
        return kind(**{name: value for name, value in values.items() if name in names})

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the fields, which are the names of the flags."""
        return [field.name for field in fields_of(cls)]

    def values(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {field.name: getattr(self, field.name) for field in fields_of(type(self))}

    def replaced(self, changes: Mapping[str, Any]) -> Self:
        """Return the group with some values replaced; a new value may select another class.

        If no value changes, return the group itself without validating it again.
        """
        changed = {name: value for name, value in changes.items() if getattr(self, name, ALWAYS_WRITTEN) != value}
        return type(self).of({**self.values(), **changed}) if changed else self

    def simplified(self) -> Self:
        """Return the same experiment without the values that cannot change its result. Groups override this.

        Raises: UsageError where the combination is not valid.
        """
        return self

    def normalized(self, iterations_per_epoch: int) -> Self:
        """Return the canonical form of these hyperparameters, which addresses and jobs use.

        Values that cannot change the result are gone, numbers have their declared type, steps are iterations (`80ep` is
        `31280it` at 391 iterations an epoch), and lists without an order are sorted.
        """
        plain = self.simplified()
        fields = fields_of(type(plain))
        values = {field.name: field.normalized(getattr(plain, field.name), iterations_per_epoch) for field in fields}
        return _unchecked(type(plain), values)  # the canonical form of valid values is valid

    def plugins(self) -> list[Plugin]:
        """Return the plug-ins whose code the values use: those of names in registries, and the plug-in of the class.

        Groups whose values name something in another way override this.
        """
        found = [plugin_that_declares(type(self))]
        for field in fields_of(type(self)):
            name = getattr(self, field.name)
            if isinstance(field.rule.choices, Registry) and name is not None:
                found.append(field.rule.choices.plugin_of(name))
        return [plugin for plugin in found if plugin is not None]

    def canonical(self) -> dict[str, Any]:
        """Return the fields that are part of an address: those that differ from `elided`. Normalize first."""
        fields = fields_of(type(self))
        return {f.name: value for f in fields if (value := getattr(self, f.name)) != f.rule.elided}


def _unchecked(kind: type[Group], values: dict[str, Any], is_generated: bool = False) -> Group:
    """Return a group with values that are known to be valid. is_generated: its class is generated from `kind`."""
    group = object.__new__(kind.group_for(values) if is_generated else kind)
    group.__dict__.update(values)
    return group


@functools.cache
def fields_of(group: type[Hparams]) -> tuple[HparamField, ...]:
    """Return the fields of a group.

    Raises: TypeError for a field that was not declared with `hparam`, or has the name of a method.
    """
    hints = typing.get_type_hints(group)
    found = []
    for field in dataclasses.fields(group):
        rule = field.metadata.get("rule")
        if not isinstance(rule, _Rule):
            raise TypeError(f"the field '{field.name}' is not declared with hparam()")
        if hasattr(Hparams, field.name):
            raise TypeError(f"a field cannot be called '{field.name}': that is a method of Hparams")
        hint = hints[field.name]
        found.append(HparamField(field.name, typing.get_args(hint) or (hint,), field.default, rule))
    return tuple(found)


@functools.cache
def help_of(group: type[Hparams]) -> dict[str, str]:
    """Return the help of each field: the docstring under it, as one line a paragraph."""
    found = {field.name: field.rule.help for field in fields_of(group)}
    for kind in reversed(group.__mro__):
        if dataclasses.is_dataclass(kind) and "_is_generated" not in kind.__dict__:
            found |= _docstrings(kind)
    return {name: found[name] for name in group.names()}


def merged_group(
    name: str,
    groups: Iterable[type[Hparams]],
    base: type[Hparams],
    summary: str,
    prefix: str = "",
    help: str = "In place of --{}.",
    renamed: Mapping[str, str] | None = None,
    own_help: Mapping[str, str] | None = None,
) -> type[Hparams]:
    """Return a subclass of `base` that has every field of some groups as well.

    prefix: precedes their names, for flags that override hyperparameters of another description. Each field is None
    where it is not given, and `overrides` reads them. help: of these fields; braces stand for the name without prefix.
    renamed: new names of fields, by their own. own_help: help of some fields in place of `help`, by their own names.
    """
    fields = {}
    for group in groups:
        texts = help_of(group)
        for field in fields_of(group):
            kind: Any = functools.reduce(operator.or_, field.types)
            default, rule = field.default, dataclasses.replace(field.rule, help=texts[field.name])
            if prefix:
                kind, default = kind | None, None
                rule = dataclasses.replace(
                    rule, elided=None, help=(own_help or {}).get(field.name, help.format(field.name))
                )
            declared = dataclasses.field(default=default, metadata={"rule": rule})
            own = (renamed or {}).get(field.name, prefix + field.name)
            fields[own] = (own, kind, declared)
    namespace = {"_is_generated": True, "__doc__": summary} | ({"_prefix": prefix} if prefix else {})
    return dataclasses.make_dataclass(
        name, fields.values(), bases=(base,), frozen=True, kw_only=True, namespace=namespace
    )


def folded_of(group: type[Hparams]) -> dict[str, list[str]]:
    """Return the fields of a group that a `merged_group` has by prefix; help shows each prefix as one entry."""
    prefixes = [base.__dict__["_prefix"] for base in group.__mro__ if "_prefix" in base.__dict__]
    return {prefix: [name for name in group.names() if name.startswith(prefix)] for prefix in prefixes}


def overrides(flags: Hparams, group: type[Hparams], prefix: str) -> dict[str, Any]:
    """Return the values that a `merged_group` with a prefix was given for the fields of a group."""
    values = {name: getattr(flags, prefix + name) for name in group.names()}
    return {name: value for name, value in values.items() if value is not None}


def elided_values(group: type[Hparams]) -> dict[str, Any]:
    """Return, by field, the value that is omitted from addresses, or ALWAYS_WRITTEN."""
    return {field.name: field.rule.elided for field in fields_of(group)}


def _docstrings(kind: type) -> dict[str, str]:
    """Return the docstrings under the fields of a class, by field."""
    found = {}
    for pair in itertools.pairwise(_body_of(kind)):
        match pair:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                paragraphs = inspect.cleandoc(text).split("\n\n")
                found[name] = "\n\n".join(" ".join(part.split()) for part in paragraphs)
    return found


def _body_of(kind: type) -> Sequence[ast.stmt]:
    """Return the statements of a class; none where its source is not known."""
    try:
        file = inspect.getsourcefile(kind) or ""
        linecache.checkcache(file)
        classes = _classes_in("".join(linecache.getlines(file, vars(sys.modules[kind.__module__]))))
        if kind.__qualname__ in classes:
            return classes[kind.__qualname__].body
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body  # of a class inside a function
    except (OSError, TypeError, ValueError, KeyError):
        return []
    assert isinstance(definition, ast.ClassDef)
    return definition.body


@functools.lru_cache(maxsize=64)
def _classes_in(source: str) -> dict[str, ast.ClassDef]:
    """Return the classes at the top of a file, by name. Parsed once a file: `inspect.getsource` does once a class."""
    return {each.name: each for each in ast.parse(source).body if isinstance(each, ast.ClassDef)}
