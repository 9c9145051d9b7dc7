"""The size of a network, counted on the meta device, where tensors have no memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from foundations.inputs import Inputs
from foundations.multiply_adds import uses_of_parameters
from models.build import construct
from models.copying import copied
from models.hparams import ModelHparams
from pruning.weights.named_weights import plain
from pruning.weights.prunable import prunable_weights

_KEEP_SHAPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.ReLU, nn.GELU)


@dataclass(frozen=True)
class Size:
    """Counts of a network's parameters and operations."""

    parameters: int
    """The number of parameters, counted by entry."""
    prunable: int
    """The number of parameters that are prunable by default (`pruning.weights.prunable`)."""
    prunable_tensors: int
    """The number of tensors that hold them."""
    multiply_adds: int
    """As `multiply_adds` returns them."""


def measure(hparams: ModelHparams, *, outputs: int, inputs: Inputs) -> Size:
    """Return the size of a network. The arguments are those of `build_model`."""
    with torch.device("meta"):
        model = construct(hparams, hparams.outputs or outputs, inputs)
    weights = prunable_weights(model)
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        prunable=sum(weight.shape.numel() for weight in weights.values()),
        prunable_tensors=len(weights),
        multiply_adds=_counted(model, inputs),
    )


def multiply_adds(model: nn.Module, inputs: Inputs | Sequence[int]) -> int:
    """Return the multiply-adds of the prunable weights in evaluation, for one example.

    inputs: or the shape of one example, such as channels, height, width. The model is not changed: a copy of it runs on
    the meta device.
    """
    return _counted(copied(plain(model)).to("meta"), inputs)


def _counted(model: nn.Module, inputs: Inputs | Sequence[int]) -> int:
    """Return the multiply-adds of a network on the meta device that is discarded afterwards."""
    for module in model.modules():
        if type(module) in _KEEP_SHAPES:  # slow on the meta device, where Python computes nothing but the shape
            module.forward = torch.nn.Identity().forward
    uses = uses_of_parameters(model, inputs)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    counted = {id(weight) for weight in prunable_weights(model).values()}
    return sum(parameters[name].numel() * number for name, number in uses.items() if id(parameters[name]) in counted)
