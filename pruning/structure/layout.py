"""The neurons and inputs of a tensor of weights, which its layer decides: the axes that structures count along."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


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


def layouts_of(model: nn.Module, names: Collection[str]) -> dict[str, Layout]:
    """Return the layouts of some tensors of a network by name; those of one dimension, such as biases, have none."""
    from pruning.weights.named_weights import layer_type, named_layers, tensors_of
    from pruning.weights.prunable import CONVOLUTIONS

    found: dict[str, Layout] = {}
    first: nn.Module | None = None
    for layer, module in named_layers(model, duplicates=True):
        is_convolution = isinstance(module, CONVOLUTIONS)
        first = module if first is None and is_convolution else first
        is_transposed = is_convolution and bool(module.transposed)
        for tensor, weight in tensors_of(module).items():
            name = f"{layer}.{tensor}" if layer else tensor
            if name in names and len(weight.shape) > 1:
                found[name] = Layout(
                    shape=tuple(weight.shape),
                    neuron_axis=int(is_transposed or layer_type(module) == "Conv1D"),
                    groups=int(module.groups) if is_convolution else 1,  # type: ignore[arg-type]
                    is_first_convolution=module is first,
                    is_transposed=is_transposed,
                )
    return found


def last_linear(model: nn.Module) -> str | None:
    """Return the name of the weight of the last linear layer, in the order of modules; None if there is none."""
    from torch import nn as layers

    from pruning.weights.named_weights import named_layers

    names = [name for name, module in named_layers(model) if isinstance(module, layers.Linear)]
    return f"{names[-1]}.weight" if names and names[-1] else "weight" if names else None
