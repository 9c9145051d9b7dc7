"""The size of a network, counted on the meta device, where tensors have no memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foundations.multiply_adds import uses_of_parameters
from models.build import construct
from models.hparams import ModelHparams


@dataclass(frozen=True)
class Size:
    """Counts of a network's parameters and operations."""

    parameters: int
    """The number of parameters, counted by entry."""
    prunable: int
    """The number of prunable ones: the weights of convolutional and linear layers, the output layer included."""
    prunable_tensors: int
    """The number of tensors that hold them."""
    multiply_adds: int
    """As `multiply_adds` returns them."""


def measure(hparams: ModelHparams, *, outputs: int, input_shape: tuple[int, int, int]) -> Size:
    """Return the size of a network. The arguments are those of `build_model`."""
    with torch.device("meta"):
        model = construct(hparams, hparams.outputs or outputs, input_shape)
    weights = [layer.weight for _, layer in _layers(model)]
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        prunable=sum(weight.numel() for weight in weights),
        prunable_tensors=len(weights),
        multiply_adds=multiply_adds(model, input_shape),
    )


def multiply_adds(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the multiply-adds of the convolutional and linear layers in evaluation, for one image.

    input_shape: channels, height, width. The model is not changed: a copy of it runs on the meta device.
    """
    model = copy.deepcopy(model).to("meta")
    uses = uses_of_parameters(model, input_shape)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    counted = {id(layer.weight) for _, layer in _layers(model)}
    return sum(parameters[name].numel() * number for name, number in uses.items() if id(parameters[name]) in counted)


def _layers(model: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
