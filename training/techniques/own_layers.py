"""The layers whose weights a technique computes otherwise: prunable weights that are parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundations.errors import UsageError
from pruning.hparams import PruningHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask
    from training.technique import Training


def weights_of_layers(model: nn.Module, layers: str, hparam: str) -> dict[str, Tensor]:
    """Return the weights of some prunable layers by name, detached.

    layers: as --prunable_layers names them; hparam: the hyperparameter that does, for errors.
    Raises: UsageError if there are none, or if one is computed from other parameters.
    """
    from pruning.masks.mask import Mask as MaskClass

    parameters = dict(model.named_parameters(remove_duplicate=False))
    try:
        prunable = MaskClass.to_prune(model, PruningHparams(prune_fraction=0.0, prunable_layers=layers))
    except UsageError as error:
        raise UsageError(error.reason, hparam) from error
    for name in prunable:
        if name not in parameters:
            raise UsageError(f"{name} is computed from other parameters; leave its layer out.", hparam)
    return {name: parameters[name].detach() for name in prunable}


def weight_decay_of(training: Training, name: str) -> float | None:
    """Return the weight decay of a parameter of the network; None if its optimizer has none, or not the parameter."""
    weight = dict(training.model.named_parameters(remove_duplicate=False))[name]
    groups = training.optimizer.param_groups
    return next((group.get("weight_decay") for group in groups if any(p is weight for p in group["params"])), None)


def outcome_of(model: nn.Module, kept: dict[str, Tensor]) -> Mask:
    """Return the mask of a network with some tensors, bool, on any device."""
    from pruning.masks.mask import Mask as MaskClass

    return MaskClass({name: tensor.cpu() for name, tensor in kept.items()}, model)


def density_of(kept: dict[str, Tensor]) -> float:
    """Return the share of entries that are kept."""
    return sum(int(tensor.sum()) for tensor in kept.values()) / sum(tensor.numel() for tensor in kept.values())
