"""Fully-connected networks, LeNet-300-100 among them (LeCun et al. 1998; Frankle & Carbin 2019, figure 2).

layer        units
input        height x width x channels, flattened
hidden i     N_i, activation
output       classes
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.family import Plan


class LeNet(nn.Module):
    """A multilayer perceptron. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, units: tuple[int, ...], plan: Plan) -> None:
        super().__init__()
        sizes = (math.prod(plan.input_shape), *units)
        self.act = ACTIVATIONS[plan.activation]
        self.fc_layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.fc = nn.Linear(sizes[-1], plan.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = x.flatten(1)
        for layer in self.fc_layers:
            x = self.act(layer(x))
        return self.fc(x)  # type: ignore[no-any-return]


def lenet(plan: Plan) -> LeNet:
    """Build `mnist_lenet_N[_M...]` for any size of input."""
    return LeNet(plan.parts.units, plan)


def synflow_fc(plan: Plan) -> LeNet:
    """Build the 'fc' model of Tanaka et al. 2020: five hidden layers of 100 units."""
    return LeNet((100,) * 5, plan)
