"""The hyperparameters of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.errors import UsageError
from foundations.registry import Plugin
from models.activations import ACTIVATIONS
from models.initializers import BATCHNORM_INITS, BIAS_INITS, WEIGHT_INITS
from models.registry import FAMILIES, canonical_model_name, find_family


@dataclass(frozen=True, kw_only=True)
class ModelHparams(Hparams):
    """The network, its initialization, and its frozen parameters."""

    model_name: str = hparam("cifar_resnet_20", elided=ALWAYS_WRITTEN)
    """The network; the command `models` lists the names."""

    model_init: str = hparam("kaiming_normal", elided=ALWAYS_WRITTEN, choices=WEIGHT_INITS)
    """The initializer of convolutional and linear weights. standard_normal draws with deviation 0.1 (as the code of its
    paper does), small_normal with 0.01, normal_variance_01 with sqrt(0.1), unit_normal with 1; as_built leaves
    PyTorch's own initial values."""

    linear_init: str | None = hparam(None, choices=WEIGHT_INITS)
    """The initializer of linear weights, where it differs from --model_init."""

    bias_init: str = hparam("as_built", choices=BIAS_INITS)
    """The initializer of the biases of convolutional and linear layers; as_built is PyTorch's default (uniform)."""

    batchnorm_init: str = hparam("uniform", elided=ALWAYS_WRITTEN, choices=BATCHNORM_INITS)
    """The initializer of batch normalization: scales from U(0,1) and shifts 0 (uniform), 1 and 0 (fixed), 1 and 1
    (oneone), scales from U(-1,1) and shifts 0 (positivenegative), scales from N(1,0.02^2) and shifts 0 (nearly_one)."""

    batchnorm_frozen: bool = hparam(False)
    """Do not train the scales and shifts of batch normalization. Its running statistics are still updated."""

    output_frozen: bool = hparam(False)
    """Do not train the output layer."""

    others_frozen: bool = hparam(False)
    """Train only batch normalization and the output layer, unless they are frozen too."""

    others_frozen_exceptions: str | None = hparam(None, unordered=True)
    """Parameters that --others_frozen leaves trainable: names separated by commas, such as fc.bias,conv.weight."""

    outputs: int | None = hparam(None, at_least=1)
    """The number of outputs; by default the dataset's number of classes."""

    activation: str = hparam("relu", choices=ACTIVATIONS)
    """The activation function, everywhere in the network (pswish: x sigmoid(2x))."""

    no_batchnorm: bool = hparam(False)
    """Leave batch normalization out (VGG)."""

    no_conv_bias: bool = hparam(False)
    """Leave the biases of convolutions out (VGG)."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class with the hyperparameters of the network's family. Raises: UsageError for an unknown name."""
        name = str(values.get("model_name", ModelHparams.model_name))
        return cast(type[Self], FAMILIES.find(name).hparams or ModelHparams)

    def validate(self) -> None:
        """Check the name of the network, and that its family has the options that are set.

        Raises: UsageError that names the valid depths, or the option that does not apply.
        """
        family, _ = find_family(self.model_name)
        for option, default in _OPTIONS.items():
            if getattr(self, option) != default and option not in family.options:
                raise UsageError(f"{self.model_name} has no such option; leave it at its default.", option)

    def check_planned(self) -> None:
        """Check what a run that is planned needs, and a stored one does not. Raises: UsageError."""
        family, _ = find_family(self.model_name)
        if family.check is not None:
            family.check(self)

    @property
    def has_batchnorm(self) -> bool:
        """Whether the network has batch normalization."""
        return FAMILIES.find(self.model_name).batchnorm and not self.no_batchnorm

    @property
    def has_dropout(self) -> bool:
        """Whether the network drops entries or whole branches in train mode."""
        family, parts = find_family(self.model_name)
        return family.dropout or parts.member.startswith(family.dropout_members)

    @property
    def is_linearized_anew(self) -> bool:
        """Whether the synaptic flow of the network was scored in another form before: it has layer norm."""
        family, parts = find_family(self.model_name)
        return parts.member.startswith(family.linearized_members)

    def plugins(self) -> list[Plugin]:
        """Return the plug-in that declares the network's family, besides those of other values."""
        own = FAMILIES.plugin_of(self.model_name)
        return [*super().plugins(), *([own] if own else [])]

    def simplified(self) -> Self:
        """Return these hyperparameters with the canonical name of the network, without values that cannot change it."""
        changes: dict[str, Any] = {"model_name": canonical_model_name(self.model_name)}
        if self.linear_init == self.model_init:
            changes["linear_init"] = None
        if not self.has_batchnorm:
            changes |= {"batchnorm_init": "uniform", "batchnorm_frozen": False}
        if not self.others_frozen:
            changes["others_frozen_exceptions"] = None
        return self.replaced(changes)


# Parts that only some families have, and the value that omits each.
_OPTIONS = {"activation": "relu", "no_batchnorm": False, "no_conv_bias": False}
