"""The contents of a module that torch does not register: layers in plain lists, plain tensors, functions with state.

They take part in its forward pass, but `modules()`, `eval()`, `double()` and `copy.deepcopy` do not reach them.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

_CONSTANTS = (
    *(types.NoneType, types.EllipsisType, types.ModuleType, types.BuiltinFunctionType),
    *(int, float, complex, str, bytes, torch.dtype, torch.device),
)
_CONTAINERS = (list, tuple, set, dict)
_REGISTERED = ("_parameters", "_buffers", "_modules")


def held_modules(network: nn.Module) -> Iterator[nn.Module]:
    """Yield all modules of a network, registered or held in its attributes: in lists, tuples, sets, dictionaries."""
    yield from _modules_in(network, set())


def convert_(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert all floating-point tensors of a network, registered or not, to one dtype, in place."""
    reached: set[nn.Module] = set()
    for module in list(held_modules(network)):
        if module not in reached:
            module._apply(lambda own: own.to(dtype) if own.is_floating_point() else own)  # type: ignore[no-untyped-call]
            reached.update(module.modules())
        for name, value in vars(module).items():
            if name not in _REGISTERED:
                vars(module)[name] = _converted(value, dtype)


def functions_with_state(network: nn.Module) -> Iterator[types.FunctionType]:
    """Yield the functions in a network (forward methods and hooks) that refer to objects other than constants.

    The references are in their closure, default values or attributes, or in other functions that they refer to.
    """
    found: dict[int, types.FunctionType] = {}
    seen: set[int] = set()
    for module in held_modules(network):
        for value in vars(module).values():
            _collect_functions(value, found, seen)
    references = {key: _references(function) for key, function in found.items()}
    stateful = {key for key, values in references.items() if any(map(_is_state, values))}
    while more := {key for key, values in references.items() if not stateful.isdisjoint(map(id, values))} - stateful:
        stateful |= more
    yield from (function for key, function in found.items() if key in stateful)


def _collect_functions(value: Any, found: dict[int, types.FunctionType], seen: set[int]) -> None:
    """Add the Python functions in a value: itself, those in containers and callables, and those that these refer to."""
    if id(value) in seen or isinstance(value, (nn.Module, Tensor, type, *_CONSTANTS)):
        return
    seen.add(id(value))
    parts: Iterable[Any] = ()
    if isinstance(value, types.FunctionType):
        found[id(value)] = value
        parts = _references(value)
    elif isinstance(value, list | tuple | set):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, types.MethodType):
        parts = (value.__func__, value.__self__)
    elif isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
    elif callable(value) and hasattr(value, "__dict__"):
        parts = vars(value).values()
    for part in list(parts):
        _collect_functions(part, found, seen)


def _references(function: types.FunctionType) -> list[Any]:
    """Return the contents of the closure of a function, its defaults and its attributes."""
    found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values()]
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # the cell is empty
            found.append(cell.cell_contents)
    return found


def _is_state(value: Any) -> bool:
    """Return whether a copy of a function must refer to a copy of this value; functions are examined separately."""
    if isinstance(value, tuple | frozenset):
        return any(map(_is_state, value))
    return not isinstance(value, (type, types.FunctionType, *_CONSTANTS))


def _modules_in(value: Any, seen: set[int]) -> Iterator[nn.Module]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield value
        value = vars(value)
    for part in list(value.values() if isinstance(value, dict) else value):
        if isinstance(part, nn.Module) or (isinstance(part, _CONTAINERS) and part):  # most have neither, or are empty
            yield from _modules_in(part, seen)


def _converted(value: Any, dtype: torch.dtype) -> Any:
    """Convert a plain tensor to a dtype; lists and dictionaries of tensors in place. Returns other values unchanged."""
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.is_floating_point():
        return value.to(dtype)
    if type(value) is list:
        value[:] = [_converted(part, dtype) for part in value]
    elif type(value) in (dict, OrderedDict):
        for name in value:
            value[name] = _converted(value[name], dtype)
    elif type(value) is tuple:
        return tuple(_converted(part, dtype) for part in value)
    return value
