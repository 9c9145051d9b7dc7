"""Checks of what a plug-in declares: that fields have their types, and that functions take their arguments."""

from __future__ import annotations

import builtins
import collections.abc
import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from foundations.description.hparams import Hparams, elided_values, help_of
from foundations.errors import OpenPruneError, PluginError, UsageError
from foundations.plugins.users_code import is_own_module, name_of, place_of_error, words_of
from foundations.registry import Registered, plugins_under_way

_NAME = re.compile(r"[^\s,=/\\\"']+")


class _UnknownKind(type):
    """Stands for the types that are imported for type checkers alone, such as Tensor."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls


class _Unknown(metaclass=_UnknownKind):
    pass


class _Names(dict[str, Any]):
    """The names that an annotation may use: a module's names; any other name stands for an unknown type."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, _Unknown)


def check_entry(entry: Registered) -> None:
    """Check what a plug-in declares. Raises: UsageError that names the field and what it takes."""
    for name, text, kind in _fields(type(entry)):
        value = _converted(getattr(entry, name), kind)
        object.__setattr__(entry, name, value)
        if not _fits(value, kind):
            raise UsageError(f"{name} is {_shown(value)}; it must be {text}.")
        if value is not None:
            _check_arguments(name, value, kind)
            if _callable_kind(kind) is not None and callable(value) and not _is_known(value):
                object.__setattr__(entry, name, _telling_errors(value, name, entry))
        if isinstance(value, type) and issubclass(value, Hparams):
            _check_group(value)
    _check_names(entry)
    entry.check_declared()


def _check_names(entry: Registered) -> None:
    if not _NAME.fullmatch(entry.spelling):
        raise UsageError(f"spelling is '{entry.spelling}'; it must be a word without spaces, commas, = and slashes.")
    try:
        re.compile(entry.pattern)
    except re.error as error:
        raise UsageError(f"the pattern of '{entry.spelling}' is not valid: {error}.") from error
    for example in entry.examples:
        if not entry.match(example):
            raise UsageError(
                f"the example '{example}' is not a name by the pattern '{entry.pattern or entry.spelling}'."
            )


def _check_group(group: type[Hparams]) -> None:
    """Check a class of hyperparameters: its fields are declared, and by `hparam`."""
    for kind in group.__mro__:
        if kind is Hparams or not issubclass(kind, Hparams):
            continue
        own = [name for name, text in vars(kind).get("__annotations__", {}).items() if "ClassVar" not in str(text)]
        if own and "__dataclass_fields__" not in vars(kind):
            raise UsageError(f"{kind.__name__} needs @dataclass(frozen=True, kw_only=True) above it.")
        loose = [name for name, value in vars(kind).items() if isinstance(value, dataclasses.Field) and name not in own]
        if loose:
            raise UsageError(f"'{loose[0]}' of {kind.__name__} needs a type: {loose[0]}: float = hparam(...).")
    try:
        elided_values(group), help_of(group)
        group()
    except (TypeError, NameError, ValueError) as error:
        raise UsageError(f"{group.__name__} cannot be used: {error}.") from error
    except UsageError as error:
        is_default = error.hparams and "is not a valid value" in error.reason
        if is_default:  # what depends on other values may be refused; a default that its own bounds refuse may not
            raise UsageError(f"a default of {group.__name__} is refused: {error}") from error


def _fields(kind: type[Registered]) -> Iterator[tuple[str, str, Any]]:
    """Yield the fields that a declaration gives: name, annotation, and its type as far as it is known here."""
    given = {field.name for field in dataclasses.fields(kind) if field.init}
    for base in reversed(kind.__mro__):
        names = _Names(vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {})
        for name, text in vars(base).get("__annotations__", {}).items():
            if name in given:
                yield name, str(text), _type_of(text, names)


def _type_of(text: Any, names: _Names) -> Any:
    try:
        return eval(text, {}, names) if isinstance(text, str) else text
    except (TypeError, AttributeError, NameError, SyntaxError):
        return _Unknown


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type, as far as that can be told."""
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if kind is None:
        return value is None
    if origin is type:
        known = [each for each in arguments if isinstance(each, type) and each not in (Any, _Unknown)]
        return isinstance(value, type) and all(issubclass(value, each) for each in known)
    if origin is collections.abc.Callable:
        return callable(value)
    if origin in (int, float):
        return isinstance(value, int if origin is int else (int, float)) and not isinstance(value, bool)
    if not isinstance(origin, type) or origin in (Any, _Unknown):  # a TypeVar or a forward reference, say
        return True
    return isinstance(value, origin) and _fits_inside(value, origin, arguments)


def _fits_inside(value: Any, origin: type, arguments: tuple[Any, ...]) -> bool:
    if isinstance(value, str):
        return origin is str  # no sequence of names
    if issubclass(origin, tuple) and arguments and arguments[-1] is not ...:
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if isinstance(value, Mapping) and len(arguments) == 2:
        return all(_fits(key, arguments[0]) and _fits(each, arguments[1]) for key, each in value.items())
    if isinstance(value, tuple | list | frozenset | set) and arguments:
        return all(_fits(each, arguments[0]) for each in value)
    return True


def _converted(value: Any, kind: Any) -> Any:
    """Return a list as the tuple, or a set as the frozenset, that a field takes; any other value as it is."""
    other: Any = tuple(value) if type(value) is list else frozenset(value) if type(value) is set else value
    return other if not _fits(value, kind) and _fits(other, kind) else value


def _check_arguments(name: str, function: Any, kind: Any) -> None:
    """Check that a function takes as many arguments as it is called with. Raises: UsageError."""
    expected = _callable_kind(kind)
    taken = ... if expected is None else typing.get_args(expected)[0]
    if isinstance(taken, list) and callable(function):
        check_call(name, function, len(taken))


def check_call(name: str, function: Callable[..., Any], number: int, keywords: Collection[str] = ()) -> None:
    """Check that a function takes a number of arguments, and further ones by name. Raises: UsageError.

    name: what the function is called in the error.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*[None] * number, **dict.fromkeys(keywords))
    except TypeError:
        words = ", ".join(str(parameter).split(":")[0].split("=")[0] for parameter in signature.parameters.values())
        called = f"{number} argument{'s' if number != 1 else ''}{' and by name ' if keywords else ''}"
        called += ", ".join(keywords)
        raise UsageError(f"{name} is called with {called}; {name_of(function)}({words}) does not take them.") from None


def _callable_kind(kind: Any) -> Any:
    """Return the Callable in the type of a field, or None."""
    kinds = (kind, *typing.get_args(kind))
    return next((each for each in kinds if typing.get_origin(each) is collections.abc.Callable), None)


def _is_known(function: Any) -> bool:
    """Return whether a function is written in the plug-in that is loaded, or in open_prune."""
    module = getattr(function, "__module__", None) or ""
    file = getattr(sys.modules.get(module), "__file__", None)
    return is_own_module(module) or file in plugins_under_way()


def _telling_errors(function: Callable[..., Any], field: str, entry: Registered) -> Callable[..., Any]:
    """Return a function of Python's or a library's with its errors told by the line of the declaration.

    It has no lines in the user's file that a traceback could name.
    """
    file = plugins_under_way()[-1]

    @functools.wraps(function, updated=())
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except OpenPruneError:
            raise
        except Exception as error:
            if place_of_error(error):
                raise
            reason = f"{name_of(function)}, its {field}, failed: {words_of(error)}"
            raise PluginError(f"{file}, line {entry.line}: '{entry.spelling}': {reason}") from error

    return call


def _shown(value: Any) -> str:
    if isinstance(value, type) or inspect.isfunction(value):
        return f"{value.__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
