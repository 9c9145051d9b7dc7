"""The size of a network, without its memory: built and run on the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.build import construct
from models.hparams import ModelHparams


@dataclass(frozen=True)
class Size:
    """What a listing says of a network."""

    parameters: int
    """Entries of all parameters."""
    prunable: int
    """Entries of the prunable ones: the weights of convolutional and linear layers, the output layer included."""
    prunable_tensors: int
    multiply_adds: int
    """Multiply-adds of the convolutional and linear layers for one image."""


def measure(hparams: ModelHparams, *, outputs: int, input_shape: tuple[int, int, int]) -> Size:
    """Return the size of a network. The arguments are those of `build_model`."""
    with torch.device("meta"):
        model = construct(hparams, hparams.outputs or outputs, input_shape).eval()
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        multiply_adds = 0

        def count(layer: nn.Module, _: Any, output: Tensor) -> None:
            nonlocal multiply_adds
            assert isinstance(layer.weight, Tensor)
            multiply_adds += output.numel() * layer.weight[0].numel()  # each output is one row's scalar product

        for layer in layers:
            layer.register_forward_hook(count)
        with torch.no_grad():
            model(torch.empty(1, *input_shape))
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        prunable=sum(layer.weight.numel() for layer in layers),
        prunable_tensors=len(layers),
        multiply_adds=multiply_adds,
    )
