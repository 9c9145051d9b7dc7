"""Initial values for networks of millions of weights, without drawing each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PERIOD = 1 << 16
_DRAWS = (
    torch.ops.aten.normal_.default,
    torch.ops.aten.uniform_.default,
    torch.ops.aten.erfinv_.default,  # torch.nn.init.trunc_normal_ applies it to uniform values, which repeat by then
)


class CheapDraws(TorchDispatchMode):
    """Inside, large tensors are filled with normal and uniform values that repeat; small ones are drawn as ever."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in _DRAWS and args[0].numel() > _PERIOD and args[0].is_contiguous():
            period = args[0].view(-1)[:_PERIOD].clone()
            return _repeat(args[0], func(period, *args[1:], **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _repeat(tensor: Tensor, values: Tensor) -> Tensor:
    """Fill a tensor in place with values one after the other, again and again; return it."""
    flat = tensor.view(-1)
    whole = flat.numel() // len(values) * len(values)
    flat[:whole].view(-1, len(values)).copy_(values)
    flat[whole:].copy_(values[: flat.numel() - whole])
    return tensor
