"""Activation functions by name: the set of Jaiswal et al. 2022 (ToST)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.registry import Registered, Registry, load

if TYPE_CHECKING:
    from torch import Tensor

Activation = Callable[["Tensor"], "Tensor"]
PSWISH_BETA = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedActivation(Registered):
    """An activation function and its name."""

    function: Activation | str
    """The function from a float tensor to one of the same shape, or `module:function`."""


def pswish(x: Tensor) -> Tensor:
    """Return x sigmoid(beta x) with beta = 2. Any shape, float."""
    return x * (PSWISH_BETA * x).sigmoid()


def lisht(x: Tensor) -> Tensor:
    """Return x tanh(x). Any shape, float."""
    return x * x.tanh()


RELU = NamedActivation(spelling="relu", function="torch.nn.functional:relu")
SWISH = NamedActivation(spelling="swish", function="torch.nn.functional:silu")
SOFTPLUS = NamedActivation(spelling="softplus", function="torch.nn.functional:softplus")
ELU = NamedActivation(spelling="elu", function="torch.nn.functional:elu")
PSWISH = NamedActivation(spelling="pswish", function=pswish)
MISH = NamedActivation(spelling="mish", function="torch.nn.functional:mish")
GELU = NamedActivation(spelling="gelu", function="torch.nn.functional:gelu")
LISHT = NamedActivation(spelling="lisht", function=lisht)

ACTIVATIONS = Registry(NamedActivation, "activation", ("models.activations",))


def activation(name: str) -> Activation:
    """Return the activation function of a name. Raises: UsageError about `activation` for an unknown name."""
    function = ACTIVATIONS.find(name).function
    return load(function) if isinstance(function, str) else function
