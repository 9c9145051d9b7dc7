"""Checks of the arguments of `prune`: numbers of any library, shapes, functions."""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import numpy as np
from torch import Tensor

from foundations.errors import UsageError


def plain(value: Any) -> Any:
    """Return a scalar of NumPy or PyTorch as a Python number, and anything else as it is."""
    is_scalar = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.dim() == 0)
    return value.item() if is_scalar else value


def whole_number(value: Any, argument: str, at_least: int | None = None) -> int | None:
    """Return a whole number, None for None. Raises: UsageError for anything else and for one that is too small."""
    if value is None:
        return None
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (at_least is not None and number < at_least):
        bound = "" if at_least is None else f" of at least {at_least}"
        raise UsageError(f"{value!r} is not a valid value; it takes a whole number{bound}.", argument)
    return number


def shape_of_example(value: Any) -> tuple[int, ...] | None:
    """Return the shape of one example, None for None. Raises: UsageError for anything but a sequence of whole numbers.

    A dimension may be 0.
    """
    if value is None:
        return None
    with contextlib.suppress(TypeError):
        shape = tuple(operator.index(size) for size in value)
        if shape and min(shape) >= 0:
            return shape
    raise UsageError(
        f"{value!r} is not a valid value; it takes the shape of one example, such as (3, 32, 32).", "input_shape"
    )


def function(value: Any, argument: str, takes: str) -> Any:
    """Return a function, None for None. Raises: UsageError for anything else, a class included."""
    if value is None or (callable(value) and not isinstance(value, type)):
        return value
    shown = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
    raise UsageError(f"{shown} is not a valid value; it takes a function of {takes}.", argument)
