"""Fully-connected networks, LeNet-300-100 among them (LeCun et al. 1998; Frankle & Carbin 2019, figure 2).

layer        units
input        flattened: the features of a vector, or height x width x channels
hidden i     N_i, activation
output       classes
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from foundations.inputs import IMAGES, SERIES, VECTORS
from models.family import UNITS, Family, NetworkSpec

if TYPE_CHECKING:
    from torch import nn


def lenet(spec: NetworkSpec) -> nn.Module:
    """Build a network with the hidden layers that the name gives, for inputs of any size."""
    from models.networks.perceptron import Perceptron

    return Perceptron(spec, spec.units)


def synflow_fc(spec: NetworkSpec) -> nn.Module:
    """Build the 'fc' model of Tanaka et al. 2020: five hidden layers of 100 units."""
    from models.networks.perceptron import Perceptron

    return Perceptron(spec, (100,) * 5)


MNIST_LENET = Family(
    spelling="mnist_lenet_N[_M...]",
    pattern=f"mnist_lenet{UNITS}",
    builder=lenet,
    source="OpenLTH",
    examples=("mnist_lenet_300_100", "mnist_lenet_500_500"),
    batchnorm=False,
    inputs=frozenset({IMAGES, VECTORS}),
)
MLP = replace(
    MNIST_LENET,
    spelling="mlp_N[_M...]",
    pattern=f"mlp{UNITS}",
    source="mnist_lenet for any inputs but tokens",
    examples=("mlp_128_128", "mlp_512_512_512"),
    inputs=frozenset({IMAGES, SERIES, VECTORS}),
)
DIGITS_LENET = replace(
    MNIST_LENET,
    spelling="digits_lenet_N[_M...]",
    pattern=f"digits_lenet{UNITS}",
    source="mnist_lenet for the 8x8 digits",
    examples=("digits_lenet_40_20",),
)
SYNFLOW_FC = Family(
    spelling="synflow_fc",
    builder=synflow_fc,
    source="Synaptic-Flow",
    batchnorm=False,
    inputs=frozenset({IMAGES, VECTORS}),
)
