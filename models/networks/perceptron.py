"""Multilayer perceptrons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from models.family import NetworkSpec


class Perceptron(nn.Module):
    """Linear layers with activations between them. Input (B, ...) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec, units: Sequence[int]) -> None:
        super().__init__()
        sizes = (math.prod(spec.input_shape), *units)
        self.act = spec.activation
        self.fc_layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.fc = nn.Linear(sizes[-1], spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = x.flatten(1)
        for layer in self.fc_layers:
            x = self.act(layer(x))
        return self.fc(x)  # type: ignore[no-any-return]
