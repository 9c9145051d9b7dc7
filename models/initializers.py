"""Initial values of parameters.

Each initializer fills tensors in place from torch's global generator, which `build_model` points at the run's stream of
initial values, with gradients off. `WEIGHT_INITS` are for the weights of convolutional and linear layers, `BIAS_INITS`
for their biases, `BATCHNORM_INITS` for batch normalization. The first five for weights and the first four for batch
normalization are OpenLTH's. `MASKED_INITS` are for masked weights. Listing them needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.registry import Registered, Registry, load

if TYPE_CHECKING:
    from torch import Tensor

Fill = Callable[["Tensor"], object]


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightInit(Registered):
    """An initializer of weights of convolutional and linear layers, of shape (outputs, inputs, ...), float."""

    fill: Fill


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasInit(Registered):
    """An initializer of biases of convolutional and linear layers, of shape (outputs,), float."""

    fill: Fill


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchnormInit(Registered):
    """An initializer of batch normalization, whose scales and shifts have shape (channels,), float."""

    fill_scale: Fill
    shift: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedInit(Registered):
    """An initializer of masked weights: N(0, std^2), for pruned weights as well."""

    std: Callable[[Tensor], Tensor]
    """The mask of a layer, (outputs, inputs, ...), bool -> the standard deviation, float64, in a shape that broadcasts
    to it."""


def _from_torch(name: str, **options: str) -> Fill:
    return lambda weight: load(f"torch.nn.init:{name}")(weight, **options)


def _keep(_tensor: Tensor) -> None:
    pass


def _kept(mask: Tensor) -> Tensor:
    """Return the number of kept weights of a layer, at least 1: float64, a scalar."""
    return mask.sum().double().clamp_min(1)


def _kept_by_unit(mask: Tensor) -> Tensor:
    """Return the number of kept weights of each output unit, at least 1: float64, (outputs, 1, ...)."""
    return mask.flatten(1).sum(1).double().clamp_min(1).view(-1, *[1] * (mask.dim() - 1))


def _binary(weight: Tensor) -> None:
    KAIMING_NORMAL.fill(weight)
    weight.copy_(weight.sign() * math.sqrt(2.0 / weight[0].numel()))


KAIMING_NORMAL = WeightInit(spelling="kaiming_normal", fill=_from_torch("kaiming_normal_", nonlinearity="relu"))
"""N(0, 2 / fan_in) (He et al. 2015, equation 10)."""
KAIMING_UNIFORM = WeightInit(spelling="kaiming_uniform", fill=_from_torch("kaiming_uniform_", nonlinearity="relu"))
"""U(-b, b) with b = sqrt(6 / fan_in), which has the variance of `kaiming_normal`."""
ORTHOGONAL = WeightInit(spelling="orthogonal", fill=_from_torch("orthogonal_"))
"""A (semi-)orthogonal matrix, the first axis against all others (Saxe et al. 2014)."""
BINARY = WeightInit(spelling="binary", fill=_binary)
"""+s and -s with equal probability, where s is the standard deviation of `kaiming_normal`."""
STANDARD_NORMAL = WeightInit(spelling="standard_normal", fill=lambda weight: weight.normal_(0.0, 0.1))
"""N(0, 0.1^2): 'Missing the Mark' calls it N(0, 1), but its code draws with deviation 0.1."""
KAIMING_NORMAL_FAN_OUT = WeightInit(
    spelling="kaiming_normal_fan_out", fill=_from_torch("kaiming_normal_", mode="fan_out", nonlinearity="relu")
)
"""N(0, 2 / fan_out)."""
XAVIER_NORMAL = WeightInit(spelling="xavier_normal", fill=_from_torch("xavier_normal_"))
"""N(0, 2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
XAVIER_UNIFORM = WeightInit(spelling="xavier_uniform", fill=_from_torch("xavier_uniform_"))
"""U(-b, b) with b = sqrt(6 / (fan_in + fan_out)), which has the variance of `xavier_normal`."""
NORMAL_VARIANCE_01 = WeightInit(spelling="normal_variance_01", fill=lambda weight: weight.normal_(0.0, math.sqrt(0.1)))
"""N(0, 0.1): Normal_Init of the PHEW repository, for VGG and the CIFAR ResNets."""
UNIT_NORMAL = WeightInit(spelling="unit_normal", fill=lambda weight: weight.normal_())
"""N(0, 1): Normal_Init of the PHEW repository, for ResNet-18 to 152."""
SMALL_NORMAL = WeightInit(spelling="small_normal", fill=lambda weight: weight.normal_(0.0, 0.01))
"""N(0, 0.01^2)."""
AS_BUILT = WeightInit(spelling="as_built", fill=_keep)
"""The values that the module's constructor drew."""

BIAS_AS_BUILT = BiasInit(spelling="as_built", fill=_keep)
"""The values that the module's constructor drew."""
BIAS_ZERO = BiasInit(spelling="zero", fill=lambda bias: bias.zero_())
BIAS_STANDARD_NORMAL = BiasInit(spelling="standard_normal", fill=lambda bias: bias.normal_())
"""N(0, 1), with deviation 1 unlike the weights' initializer of this name."""

UNIFORM = BatchnormInit(spelling="uniform", fill_scale=lambda scale: scale.uniform_())
"""Scales from U(0, 1)."""
FIXED = BatchnormInit(spelling="fixed", fill_scale=lambda scale: scale.fill_(1.0))
"""Scales 1: PyTorch's default."""
ONEONE = BatchnormInit(spelling="oneone", fill_scale=lambda scale: scale.fill_(1.0), shift=1.0)
"""Scales 1 and shifts 1."""
POSITIVENEGATIVE = BatchnormInit(spelling="positivenegative", fill_scale=lambda scale: scale.uniform_(-1.0, 1.0))
"""Scales from U(-1, 1)."""
NEARLY_ONE = BatchnormInit(spelling="nearly_one", fill_scale=lambda scale: scale.normal_(1.0, 0.02))
"""Scales from N(1, 0.02^2) (ToST's lottery-ticket code)."""

LIU = MaskedInit(spelling="liu", std=lambda mask: (2 * len(mask) / _kept(mask)).sqrt())
"""Kaiming's deviation for the mean number of kept inputs of a layer's units, sqrt(2 outputs / kept) (Liu et al. 2019,
as the PHEW repository has it)."""
EVCI = MaskedInit(spelling="evci", std=lambda mask: (2 / _kept_by_unit(mask)).sqrt())
"""Kaiming's deviation for the number of kept inputs of each unit, sqrt(2 / kept) (Evci et al. 2022, as the PHEW
repository has it)."""
LIU_TINYIMAGENET = MaskedInit(spelling="liu_tinyimagenet", std=lambda mask: (mask.shape[1] / _kept(mask)).sqrt())
"""sqrt(inputs / kept): the PHEW repository's `liu` for Tiny ImageNet."""
EVCI_TINYIMAGENET = MaskedInit(
    spelling="evci_tinyimagenet", std=lambda mask: (mask.shape[1] / len(mask) / _kept_by_unit(mask)).sqrt()
)
"""sqrt(inputs / (outputs * kept)) for each unit: the PHEW repository's `evci` for Tiny ImageNet."""

WEIGHT_INITS = Registry(WeightInit, "model_init", ("models.initializers",))
BIAS_INITS = Registry(BiasInit, "bias_init", ("models.initializers",))
BATCHNORM_INITS = Registry(BatchnormInit, "batchnorm_init", ("models.initializers",))
MASKED_INITS = Registry(MaskedInit, "masked_init", ("models.initializers",))
