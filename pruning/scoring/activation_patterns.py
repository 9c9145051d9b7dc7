"""Activations as factors: f(z) = a z, recorded in one forward pass and applied to other values in a later one.

Of a ReLU, a is 1 where its input is positive and 0 elsewhere. Of other activations it is f(z) / z, such as the slope of
a leaky ReLU, or Φ(z) of a GELU. Activations that do not pass through 0 (sigmoid) are left as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from foundations.errors import UsageError
from pruning.scoring.linearized import GATES, is_linearized, linearized

_RELUS: tuple[Any, ...] = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_OTHERS: tuple[Any, ...] = (
    *GATES,
    *(F.leaky_relu, F.leaky_relu_, F.rrelu, F.elu, F.elu_, F.selu, F.celu, F.mish, F.prelu, torch.prelu),
    *(F.relu6, F.hardtanh, F.hardtanh_, F.hardswish, F.softsign, F.tanhshrink, F.softshrink, F.hardshrink),
    *(F.tanh, torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, torch._C._nn.leaky_relu, torch._C._nn.hardtanh),
)
_ACTIVATIONS = frozenset((*_RELUS, *_OTHERS))
_IN_PLACE = frozenset(
    (F.relu_, torch.relu_, Tensor.relu_, F.leaky_relu_, F.elu_, F.hardtanh_, torch.tanh_, Tensor.tanh_)
)


class Pattern(TorchFunctionMode):
    """Records the factor of each activation of a forward pass, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _ACTIVATIONS:
            return func(*args, **kwargs)
        z = args[0] if args else kwargs["input"]
        if func in _RELUS:
            self.factors.append(z > 0)
            return func(*args, **kwargs)
        z = z.clone()
        result = func(*args, **kwargs)
        self.factors.append(torch.where(z == 0, 0.0, result / z))
        return result


class _Applied(TorchFunctionMode):
    """Replaces each activation by a multiplication with a recorded factor, or by the identity."""

    def __init__(self, factors: list[Tensor] | None, calls_gates: bool) -> None:
        super().__init__()
        self._factors = None if factors is None else iter(factors)
        self._calls_gates = calls_gates

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _ACTIVATIONS:
            return func(*args, **kwargs)
        z: Tensor = args[0] if args else kwargs["input"]
        is_in_place = func in _IN_PLACE or bool(kwargs.get("inplace")) or any(part is True for part in args[1:])
        if self._calls_gates and func in GATES:
            z = func(*args, **kwargs)  # the linearized form, which recognizes its result in a product
        elif self._factors is not None and not is_in_place:
            z = z.clone()
        if self._factors is None:
            return z
        factor = next(self._factors, None)
        if factor is None or factor.shape != z.shape:
            raise UsageError("the activations of this network differ from one forward pass to the next.", "strategy")
        return z.mul_(factor)


@contextlib.contextmanager
def with_factors(network: nn.Module, factors: list[Tensor] | None) -> Iterator[None]:
    """Compute in the block the linear form of a network: each activation multiplies by its factor; None: by 1.

    Transformers are computed in their linearized form (`pruning.scoring.linearized`).
    """
    with linearized(network), _Applied(factors, is_linearized(network)):
        yield
