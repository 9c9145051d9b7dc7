"""The layouts of the weights of a network, by name."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from pruning.structure.layout import Layout
from pruning.weights.named_weights import layer_type, named_layers, tensors_of
from pruning.weights.prunable import CONVOLUTIONS


def layouts_of(model: nn.Module, names: Collection[str]) -> dict[str, Layout]:
    """Return the layouts of some tensors of a network by name; those of one dimension, such as biases, have none."""
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
    names = [name for name, module in named_layers(model) if isinstance(module, nn.Linear)]
    return f"{names[-1]}.weight" if names and names[-1] else "weight" if names else None
