"""Deep copies of any torch.nn.Module, with any contents."""

from __future__ import annotations

import contextlib
import copy
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.held import functions_with_state, held_modules

_MOST_SHARED = 1000
"""The most objects that cannot be copied in one module."""


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a module that computes the same and shares no tensor with it.

    Unlike `copy.deepcopy`, it copies modules that hold results of a forward pass (tensors with a history are copied
    without it), and functions in the module (a forward method or a hook) that refer to the module or to tensors, in
    their closure or defaults, or through other functions: the copied functions refer to the copy. Objects that cannot
    be copied, such as locks and open files, are shared.
    """
    shared: list[object] = []
    while True:
        try:
            return _deep_copy(model, shared)
        except Exception as error:
            culprit = _culprit(error)
            if culprit is None or isinstance(culprit, nn.Module | Tensor) or len(shared) > _MOST_SHARED:
                raise
            shared.append(culprit)


def _deep_copy(model: nn.Module, shared: list[object]) -> nn.Module:
    memo: dict[int, Any] = {id(value): value for value in shared}
    for module in held_modules(model):
        for value in vars(module).values():
            if type(value) in (dict, OrderedDict, set) and not value:
                memo[id(value)] = type(value)()  # most of the time of a deep copy goes to empty dictionaries of hooks
    functions = {id(function): (function, _hollow(function)) for function in functions_with_state(model)}
    memo |= {key: other for key, (_, other) in functions.items() if key not in memo}
    with _CopiesWithoutHistory():
        made = copy.deepcopy(model, memo)
        for function, other in functions.values():
            other.__defaults__ = copy.deepcopy(function.__defaults__, memo)
            other.__kwdefaults__ = copy.deepcopy(function.__kwdefaults__, memo)
            other.__dict__.update(copy.deepcopy(function.__dict__, memo))
            for cell, empty in zip(function.__closure__ or (), other.__closure__ or (), strict=True):
                with contextlib.suppress(ValueError):  # the cell is empty
                    empty.cell_contents = copy.deepcopy(cell.cell_contents, memo)
    if functions:
        _rebind(made, {key: other for key, (_, other) in functions.items()})
    return made


def _hollow(function: types.FunctionType) -> types.FunctionType:
    """Return a function of the same code, with nothing in its closure yet."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)


def _rebind(made: nn.Module, functions: dict[int, types.FunctionType]) -> None:
    """Give the bound methods of a copy the copied functions: deepcopy copies only the objects they are bound to."""
    for module in held_modules(made):
        for owner in (vars(module), *(value for value in vars(module).values() if isinstance(value, dict))):
            for name, value in owner.items():
                if isinstance(value, types.MethodType) and id(value.__func__) in functions:
                    owner[name] = types.MethodType(functions[id(value.__func__)], value.__self__)


class _CopiesWithoutHistory(TorchFunctionMode):
    """Makes deepcopy copy tensors that autograd computed, without their history; torch refuses to copy them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__:
            tensor, memo = cast("tuple[Tensor, dict[int, Any]]", args)
            if not tensor.is_leaf:
                return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


def _culprit(error: BaseException) -> object | None:
    """Return the object that deepcopy was copying when it failed: the innermost one."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is copy.deepcopy.__code__:
            found = trace.tb_frame.f_locals["x"]
        trace = trace.tb_next
    return found
