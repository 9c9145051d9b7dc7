"""Masks of biases: a unit that keeps no incoming weight needs no bias."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from pruning.masks.mask import Mask


def units_with_weights(layer: nn.Module, kept: torch.Tensor) -> torch.Tensor:
    """Return True for each output unit of a layer that keeps an incoming weight: bool, (outputs,).

    kept: the mask of the layer's weight, bool, (outputs, inputs, ...), or (inputs, outputs, ...) where transposed.
    """
    if isinstance(layer, _ConvTransposeNd):
        by_group = kept.reshape(layer.groups, -1, *kept.shape[1:])
        return by_group.flatten(3).any(3).any(1).flatten()
    return kept.flatten(1).any(1)


def bias_masks(model: nn.Module, mask: Mask) -> Mask:
    """Return the mask of the biases of the layers that `mask` covers: a unit without incoming weights has none.

    Omits layers without a bias, so the mask may be empty. PHEW prunes these biases: no walk passes their units.
    """
    found: dict[str, torch.Tensor] = {}
    for name, kept in mask.items():
        path, _, weight = name.rpartition(".")
        layer = model.get_submodule(path)
        bias = weight.replace("weight", "bias")
        if layer._parameters.get(bias) is not None:
            found[f"{path}.{bias}" if path else bias] = units_with_weights(layer, kept)
    return Mask(found, model)
