"""The signs of trained weights on the magnitudes of others (AWS: Oh et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from foundations.errors import UsageError
from models.build import output_layer
from pruning.masks.mask import Mask


def with_signs(mask: Mask, trained: Mapping[str, torch.Tensor]) -> Mask:
    """Return the mask of the kept weights that have a sign, and so are not 0. trained: tensors by name.

    Raises: UsageError for masked weights that the trained network does not have, or that are complex.
    """
    for name in mask:
        _check(name, mask[name], trained)
    return Mask({name: kept & (trained[name] != 0).cpu() for name, kept in mask.items()})


@torch.no_grad()
def transfer_signs(model: nn.Module, mask: Mask, trained: Mapping[str, torch.Tensor], *, output: bool) -> None:
    """Give weights of a network the signs of trained ones, in place: w becomes |w| sign(w_trained m).

    That is the weights of the mask and, with `output`, all parameters of the output layer. trained: tensors by name.
    Raises: UsageError for weights that the trained network does not have, or that are complex.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    kept: dict[str, torch.Tensor] = dict(mask)
    if output:
        layer = output_layer(model)
        prefix = next(name for name, module in model.named_modules() if module is layer)
        own = (f"{prefix}.{name}".lstrip(".") for name, _ in layer.named_parameters())
        kept |= {name: torch.ones_like(parameters[name], dtype=torch.bool) for name in own if name not in kept}
    for name, keeps in kept.items():
        if name not in parameters:
            raise UsageError(f"{name} is computed from other parameters; it takes no signs.")
        weight = parameters[name]
        _check(name, weight, trained)
        weight.copy_(weight.abs() * torch.sign(trained[name].to(weight)) * keeps.to(weight.device))


def _check(name: str, weight: torch.Tensor, trained: Mapping[str, torch.Tensor]) -> None:
    if name not in trained or trained[name].shape != weight.shape:
        raise UsageError(f"{name} is not a parameter of both networks; signs cannot be transferred.")
    if trained[name].is_complex():
        raise UsageError(f"{name} is complex, so that its weights have no signs.")
