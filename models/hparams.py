"""The hyperparameters of a network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from foundations.errors import UsageError
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from models.registry import canonical_model_name, find_family

MODEL_INITS = (
    "kaiming_normal",
    "kaiming_uniform",
    "orthogonal",
    "binary",
    "standard_normal",
    "kaiming_normal_fan_out",
    "xavier_normal",
    "small_normal",
    "as_built",
)
BIAS_INITS = ("as_built", "zero", "standard_normal")
BATCHNORM_INITS = ("uniform", "fixed", "oneone", "positivenegative", "nearly_one")
ACTIVATIONS = ("relu", "swish", "softplus", "elu", "pswish", "mish", "gelu", "lisht")


@dataclass(frozen=True, kw_only=True)
class ModelHparams(Hparams):
    """The network, how it is initialized, and which of its parameters stay as initialized."""

    model_name: str = hparam("cifar_resnet_20", elided=ALWAYS_WRITTEN)
    """The network; `open_prune.py models` lists the names."""

    model_init: str = hparam("kaiming_normal", elided=ALWAYS_WRITTEN, choices=MODEL_INITS)
    """The initializer of convolutional and linear weights. standard_normal draws with deviation 0.1 (as the code of its
    paper does), small_normal with 0.01; as_built leaves PyTorch's own initial values."""

    linear_init: str | None = hparam(None, choices=MODEL_INITS)
    """The initializer of linear weights, where it is not that of --model_init."""

    bias_init: str = hparam("as_built", choices=BIAS_INITS)
    """The initializer of the biases of convolutional and linear layers; as_built is PyTorch's default (uniform)."""

    batchnorm_init: str = hparam("uniform", elided=ALWAYS_WRITTEN, choices=BATCHNORM_INITS)
    """The initializer of batch normalization: scales from U(0,1) and shifts 0 (uniform), 1 and 0 (fixed), 1 and 1
    (oneone), scales from U(-1,1) and shifts 0 (positivenegative), scales from N(1,0.02^2) and shifts 0 (nearly_one)."""

    batchnorm_frozen: bool = hparam(False)
    """Do not train the scales and shifts of batch normalization. Its running statistics still move."""

    output_frozen: bool = hparam(False)
    """Do not train the output layer."""

    others_frozen: bool = hparam(False)
    """Do not train any parameter but those of batch normalization and of the output layer."""

    others_frozen_exceptions: str | None = hparam(None, unordered=True)
    """Parameters that --others_frozen spares: names separated by commas, such as conv.weight,blocks.0.conv1.weight."""

    outputs: int | None = hparam(None, at_least=1)
    """The number of outputs; by default the data set's number of classes."""

    activation: str = hparam("relu", choices=ACTIVATIONS)
    """The activation function, everywhere in the network (pswish: x sigmoid(2x))."""

    no_batchnorm: bool = hparam(False)
    """Leave batch normalization out (VGG)."""

    no_conv_bias: bool = hparam(False)
    """Leave the biases of convolutions out (VGG)."""

    def validate(self) -> None:
        """Check the name of the network, and that it has the options that are set.

        Raises: UsageError that says what is possible.
        """
        family, _ = find_family(self.model_name)
        defaults = {"activation": "relu", "no_batchnorm": False, "no_conv_bias": False}
        for option, default in defaults.items():
            if getattr(self, option) != default and option not in family.options:
                raise UsageError(f"{self.model_name} has no such option; leave it at its default.", option)

    def simplified(self) -> Self:
        """Return these hyperparameters with one spelling for each network, without what cannot change it."""
        family, _ = find_family(self.model_name)
        changes: dict[str, Any] = {"model_name": canonical_model_name(self.model_name)}
        if self.linear_init == self.model_init:
            changes["linear_init"] = None
        if not family.batchnorm or self.no_batchnorm:
            changes |= {"batchnorm_init": "uniform", "batchnorm_frozen": False}
        if not self.others_frozen:
            changes["others_frozen_exceptions"] = None
        return dataclasses.replace(self, **changes)
