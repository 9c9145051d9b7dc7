"""Fully-connected networks, LeNet-300-100 among them (LeCun et al. 1998; Frankle & Carbin 2019, figure 2).

layer        units
input        height x width x channels, flattened
hidden i     N_i, ReLU
output       classes
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import Parts


class LeNet(nn.Module):
    """A multilayer perceptron with ReLU. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, units: tuple[int, ...], inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = (inputs, *units)
        self.fc_layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.fc = nn.Linear(sizes[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = x.flatten(1)
        for layer in self.fc_layers:
            x = F.relu(layer(x))
        return self.fc(x)  # type: ignore[no-any-return]


def lenet(parts: Parts, outputs: int, input_shape: tuple[int, int, int]) -> LeNet:
    """Build `mnist_lenet_N[_M...]` for any size of input."""
    return LeNet(parts.units, math.prod(input_shape), outputs)
