"""The hyperparameters of a network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from models.registry import canonical_model_name, find_family

MODEL_INITS = ("kaiming_normal", "kaiming_uniform", "orthogonal", "binary", "standard_normal")
BATCHNORM_INITS = ("uniform", "fixed", "oneone", "positivenegative")


@dataclass(frozen=True, kw_only=True)
class ModelHparams(Hparams):
    """The network, how it is initialized, and which of its parameters stay as initialized."""

    model_name: str = hparam("cifar_resnet_20", elided=ALWAYS_WRITTEN)
    """The network; `open_prune.py models` lists the names."""

    model_init: str = hparam("kaiming_normal", elided=ALWAYS_WRITTEN, choices=MODEL_INITS)
    """The initializer of convolutional and linear weights. Biases keep PyTorch's default."""

    batchnorm_init: str = hparam("uniform", elided=ALWAYS_WRITTEN, choices=BATCHNORM_INITS)
    """The initializer of batch normalization: scales from U(0,1) and shifts 0 (uniform), 1 and 0 (fixed), 1 and 1
    (oneone), scales from U(-1,1) and shifts 0 (positivenegative)."""

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

    def validate(self) -> None:
        """Check the name of the network. Raises: UsageError that says which names are possible."""
        canonical_model_name(self.model_name)

    def normalized(self, iterations_per_epoch: int) -> Self:
        """Return these hyperparameters with one spelling for each network, without what cannot change it."""
        family, _ = find_family(self.model_name)
        plain = dataclasses.replace(
            self,
            model_name=canonical_model_name(self.model_name),
            batchnorm_init=self.batchnorm_init if family.batchnorm else "uniform",
            batchnorm_frozen=self.batchnorm_frozen and family.batchnorm,
            others_frozen_exceptions=self.others_frozen_exceptions if self.others_frozen else None,
        )
        return super(ModelHparams, plain).normalized(iterations_per_epoch)
