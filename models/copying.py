"""Deep copies of any torch.nn.Module, whatever it holds."""

from __future__ import annotations

import copy
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_MOST_SHARED = 1000
"""How many objects that cannot be copied a module may hold."""


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a module that computes what the module computes and shares no tensor with it.

    Unlike `copy.deepcopy`, it copies modules that hold the results of a forward pass (tensors with a history are copied
    without it), and functions of the module's own (a forward method or a hook) that refer to the module or to tensors:
    those of the copy refer to the copy. Objects that cannot be copied, such as locks and open files, are shared.
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
    functions: list[tuple[types.FunctionType, types.FunctionType]] = []
    for module in model.modules():
        for value in vars(module).values():
            if type(value) in (dict, OrderedDict, set) and not value:
                memo[id(value)] = type(value)()  # most of the time of a deep copy goes to empty dictionaries of hooks
        for function in _own_functions(module):
            if function.__closure__ is not None and id(function) not in memo:
                memo[id(function)] = _with_empty_cells(function)
                functions.append((function, memo[id(function)]))
    with _CopiesWithoutHistory():
        made = copy.deepcopy(model, memo)
        for function, other in functions:
            for cell, empty in zip(function.__closure__ or (), other.__closure__ or (), strict=True):
                try:
                    content = cell.cell_contents
                except ValueError:  # the cell is empty
                    continue
                empty.cell_contents = copy.deepcopy(content, memo)
    return made


def _own_functions(module: nn.Module) -> Iterator[types.FunctionType]:
    """Yield the functions among a module's attributes and its hooks."""
    for value in vars(module).values():
        for inner in value.values() if isinstance(value, dict) else (value,):
            if isinstance(inner, types.FunctionType):
                yield inner


def _with_empty_cells(function: types.FunctionType) -> types.FunctionType:
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    other = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)
    other.__kwdefaults__, other.__dict__ = function.__kwdefaults__, dict(function.__dict__)
    return other


class _CopiesWithoutHistory(TorchFunctionMode):
    """Lets deepcopy copy tensors that autograd computed, which torch refuses, as tensors without a history."""

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
