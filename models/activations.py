"""Activation functions by name: the set of Jaiswal et al. 2022 (ToST)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Activation = Callable[[Tensor], Tensor]
PSWISH_BETA = 2.0


def pswish(x: Tensor) -> Tensor:
    """Return x sigmoid(beta x) with beta = 2."""
    return x * torch.sigmoid(PSWISH_BETA * x)


def lisht(x: Tensor) -> Tensor:
    """Return x tanh(x)."""
    return x * torch.tanh(x)


ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "swish": F.silu,
    "softplus": F.softplus,
    "elu": F.elu,
    "pswish": pswish,
    "mish": F.mish,
    "gelu": F.gelu,
    "lisht": lisht,
}
