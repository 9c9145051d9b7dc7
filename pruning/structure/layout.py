"""The neurons and inputs of a tensor of weights, which its layer decides: the axes that structures count along."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The shape of a tensor of weights of at least two dimensions, and the meaning of its axes."""

    shape: tuple[int, ...]
    neuron_axis: int = 0
    """The axis of the neurons, or output channels: 1 in transposed convolutions, and in the Conv1D of transformers."""
    groups: int = 1
    """The groups of a convolution; as many as inputs if it is depthwise."""
    is_first_convolution: bool = False
    is_transposed: bool = False

    @property
    def input_axis(self) -> int:
        """The axis of the inputs, or input channels."""
        return 1 - self.neuron_axis

    @property
    def kernel_axes(self) -> tuple[int, ...]:
        """The axes of the kernel; none in a linear layer."""
        return tuple(range(2, len(self.shape)))

    @property
    def neurons(self) -> int:
        """The number of neurons."""
        return self.shape[self.neuron_axis]

    @property
    def fan_in(self) -> int:
        """The number of weights of each neuron."""
        return math.prod(self.shape) // self.neurons
