"""`pooled_cnn`: a network with a hyperparameter of its own, and a recipe to train it on digits, as a plug-in.

layer     kernel   channels
conv      3x3      c, activation
conv      3x3      2c, activation
average over the image
linear             classes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_prune import Family, ModelHparams, NetworkSpec, Recipe, hparam

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class PooledCnnHparams(ModelHparams):
    """The network, how it is initialized, and which of its parameters are frozen."""

    cnn_channels: int = hparam(16, at_least=1)
    """Channels of the first convolution; the second one has twice as many."""


def pooled_cnn(spec: NetworkSpec) -> nn.Module:
    """Build the network, for images of any size."""
    from torch import nn

    assert isinstance(spec.hparams, PooledCnnHparams)
    channels = spec.hparams.cnn_channels
    return nn.Sequential(
        nn.Conv2d(spec.channels, channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * channels, spec.outputs),
    )


POOLED_CNN = Family(
    spelling="pooled_cnn",
    builder=pooled_cnn,
    source="an example of a network of your own",
    options=frozenset(),
    batchnorm=False,
    hparams=PooledCnnHparams,
)
RECIPE = Recipe.of_family(
    POOLED_CNN, {"dataset_name": "digits", "batch_size": 64, "training_steps": "12ep", "lr": 0.1, "momentum": 0.9}
)
