"""How weights begin.

Each initializer fills tensors in place from torch's global generator, which `build_model` points at the stream of the
run's initialization. `WEIGHTS` are for the weights of convolutional and linear layers, `BIASES` for their biases,
`BATCHNORMS` for batch normalization. The first five of `WEIGHTS` and the first four of `BATCHNORMS` are OpenLTH's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def kaiming_normal(weight: Tensor) -> None:
    """Fill with N(0, 2 / fan_in) (He et al. 2015, equation 10)."""
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")


def kaiming_uniform(weight: Tensor) -> None:
    """Fill from U(-b, b) with b = sqrt(6 / fan_in), which has the variance of `kaiming_normal`."""
    nn.init.kaiming_uniform_(weight, mode="fan_in", nonlinearity="relu")


def orthogonal(weight: Tensor) -> None:
    """Fill with a (semi-)orthogonal matrix, the first axis against all others (Saxe et al. 2014)."""
    nn.init.orthogonal_(weight)


def binary(weight: Tensor) -> None:
    """Fill with +s and -s by fair coins, where s is the standard deviation of `kaiming_normal`."""
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
    fan_in = weight[0].numel()
    weight.copy_(torch.sign(weight) * math.sqrt(2.0 / fan_in))


def standard_normal(weight: Tensor) -> None:
    """Fill with N(0, 0.1^2): in 'Missing the Mark' it is called N(0, 1), but its code draws with deviation 0.1."""
    nn.init.normal_(weight, mean=0.0, std=0.1)


def kaiming_normal_fan_out(weight: Tensor) -> None:
    """Fill with N(0, 2 / fan_out)."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def xavier_normal(weight: Tensor) -> None:
    """Fill with N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    nn.init.xavier_normal_(weight)


def small_normal(weight: Tensor) -> None:
    """Fill with N(0, 0.01^2)."""
    nn.init.normal_(weight, mean=0.0, std=0.01)


def as_built(tensor: Tensor) -> None:
    """Leave what the module's constructor drew."""


def zero(bias: Tensor) -> None:
    """Fill with 0."""
    bias.zero_()


def unit_normal(bias: Tensor) -> None:
    """Fill with N(0, 1)."""
    bias.normal_()


def uniform(scale: Tensor, shift: Tensor) -> None:
    """Draw scales from U(0, 1); shifts are 0."""
    scale.uniform_()
    shift.zero_()


def fixed(scale: Tensor, shift: Tensor) -> None:
    """Scales are 1, shifts are 0: PyTorch's default."""
    scale.fill_(1.0)
    shift.zero_()


def oneone(scale: Tensor, shift: Tensor) -> None:
    """Scales and shifts are 1."""
    scale.fill_(1.0)
    shift.fill_(1.0)


def positivenegative(scale: Tensor, shift: Tensor) -> None:
    """Draw scales from U(-1, 1); shifts are 0."""
    scale.uniform_(-1.0, 1.0)
    shift.zero_()


def nearly_one(scale: Tensor, shift: Tensor) -> None:
    """Draw scales from N(1, 0.02^2); shifts are 0 (ToST's lottery-ticket code)."""
    scale.normal_(1.0, 0.02)
    shift.zero_()


WEIGHTS: dict[str, Callable[[Tensor], None]] = {
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "orthogonal": orthogonal,
    "binary": binary,
    "standard_normal": standard_normal,
    "kaiming_normal_fan_out": kaiming_normal_fan_out,
    "xavier_normal": xavier_normal,
    "small_normal": small_normal,
    "as_built": as_built,
}
BIASES: dict[str, Callable[[Tensor], None]] = {"as_built": as_built, "zero": zero, "standard_normal": unit_normal}
BATCHNORMS: dict[str, Callable[[Tensor, Tensor], None]] = {
    "uniform": uniform,
    "fixed": fixed,
    "oneone": oneone,
    "positivenegative": positivenegative,
    "nearly_one": nearly_one,
}
