"""The uses of each parameter of a network for one example, from which multiply-adds follow. Imports torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from foundations.inputs import Inputs

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@contextlib.contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode inside the block, then restore the mode of each module."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def uses_of_parameters(model: nn.Module, inputs: Inputs | Sequence[int]) -> dict[str, int]:
    """Return, by name, how many multiplications or additions use each entry of a parameter for one example.

    A weight of a convolution is used at each place of its output (padding included), one of a linear layer for each
    row of its input, one of a recurrent layer at each position, an entry of a vector (a bias; a scale or a shift of a
    normalization) at each place of its channel. So the multiply-adds of a tensor are its entries times its uses,
    whatever the groups of a convolution. For a sparse tensor, count its kept entries only.

    inputs: or the shape of one example, such as channels, height, width. The model runs once, in eval mode and without
    gradients, on its own device (`meta` will do), and is left as it was. A parameter that two modules share has the
    alphabetically first of its names. Parameters that no module applies in its own forward pass are absent.
    """
    uses: dict[int, int] = {}

    def count(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        for parameter, number in _uses_in(module, given, output):
            uses[id(parameter)] = uses.get(id(parameter), 0) + number

    handles = [module.register_forward_hook(count) for module in model.modules()]
    parameter = next(model.parameters())
    try:
        with in_eval_mode(model), torch.no_grad():
            model(Inputs.of(inputs).blank(1, parameter.device, parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    names: dict[int, str] = {}
    for name, shared in sorted(model.named_parameters(remove_duplicate=False)):
        names.setdefault(id(shared), name)
    return {name: uses[key] for key, name in names.items() if key in uses}


def _uses_in(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Iterator[tuple[nn.Parameter, int]]:
    """Yield the parameters that a module itself applies in a call, and the uses of each of their entries."""
    if isinstance(module, nn.MultiheadAttention):  # it calls its output layer's function, not the layer
        yield from _uses_in_attention(module, inputs)
        return
    if isinstance(module, nn.RNNBase):
        positions = output[0].numel() // output[0].shape[-1] if isinstance(output[0], torch.Tensor) else 0
        yield from ((parameter, positions) for parameter in module.parameters(recurse=False))
        return
    if not isinstance(output, torch.Tensor):
        return
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() == 1:
            yield parameter, output.numel() // parameter.numel()
        elif name == "weight" and isinstance(module, _CONVOLUTIONS):
            yield parameter, output.numel() // module.out_channels
        elif name == "weight" and isinstance(module, _TRANSPOSED):
            yield parameter, inputs[0].numel() // module.in_channels
        elif name == "weight" and isinstance(module, nn.Linear):
            yield parameter, output.numel() // module.out_features


def _uses_in_attention(module: nn.MultiheadAttention, inputs: tuple[Any, ...]) -> Iterator[tuple[nn.Parameter, int]]:
    """Yield the parameters of attention with as many keys as queries, unless they have weights of their own."""
    if len(inputs) < 3:
        return
    query, key, value = (tensor.numel() // tensor.shape[-1] for tensor in inputs[:3])
    numbers = {"q_proj_weight": query, "k_proj_weight": key, "v_proj_weight": value}
    for name, parameter in module.named_parameters(recurse=False):
        yield parameter, numbers.get(name, query)
    for parameter in module.out_proj.parameters():
        yield parameter, query
