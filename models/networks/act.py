"""Activation functions as layers."""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import Activation


class Act(nn.Module):
    """An activation function as a layer. Any shape, float."""

    def __init__(self, function: Activation) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's value at each entry."""
        return self.function(x)
