"""PHEW with the interface of its published code, for training loops that use it."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.bias_masks import units_with_weights
from pruning.paths.graph import trace
from pruning.prune import prune
from pruning.scoring.scoring_network import CannotRun
from pruning.weights.prunable import prunable_weights

_SIDES = (32, 64, 224, 28, 8, 299)


def phew_masks(
    network: nn.Module,
    prune_percentage: float,
    verbose: bool = True,
    kernel_conserved: bool = False,
    *,
    seed: int = 0,
    input_shape: tuple[int, ...] | None = None,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the masks of a network's weights and of its biases, by PHEW: `weight_masks, bias_masks`.

    Each list has a tensor for every prunable weight, in the order of `network.parameters()`: 0 or 1, float32, on the
    weight's device. Masks of weights have the weights' shapes, masks of biases (outputs,), whether or not the layer has
    biases; the bias of a unit is pruned if no walk passes it. `prune(network, "phew", ...)` gives the same mask of the
    weights.

    prune_percentage: the share of the prunable weights that is pruned, 0 to 100; exact, whereas the published code
    keeps up to a walk more. verbose: print the number of kept weights. kernel_conserved: a walk keeps whole kernels.
    seed: of the walks. input_shape: of one example; by default square images of a usual size, or (features,) for a
    network that begins with a linear layer.

    Raises: UsageError for a percentage that is not valid, or if no size of images fits the network.
    """
    if not 0 <= prune_percentage <= 100:
        raise UsageError(f"{prune_percentage} is not a percentage.", "prune_percentage")
    shape = _shape_of_inputs(network) if input_shape is None else input_shape
    mask = prune(
        network,
        "phew",
        fraction=prune_percentage / 100,
        seed=seed,
        input_shape=shape,
        phew_kernels=kernel_conserved,
    )
    if verbose:
        print(f"PHEW keeps {mask.kept} of {mask.total} weights ({100 * mask.density:.4g}%).")  # noqa: T201 - asked for
    names = {id(weight): name for name, weight in prunable_weights(network).items()}
    weight_masks, bias_masks = [], []
    for parameter in network.parameters():
        if (name := names.get(id(parameter))) is not None:
            layer = network.get_submodule(name.rpartition(".")[0])
            weight_masks.append(mask[name].to(parameter.device, torch.float32))
            bias_masks.append(units_with_weights(layer, mask[name]).to(parameter.device, torch.float32))
    return weight_masks, bias_masks


def _shape_of_inputs(network: nn.Module) -> tuple[int, ...]:
    """Return a shape of examples that the network takes. Raises: UsageError if none is found."""
    ids = {id(weight) for weight in prunable_weights(network).values()}
    first = next(parameter for parameter in network.parameters() if id(parameter) in ids)
    candidates = [(first.shape[1],)] if first.dim() == 2 else [(first.shape[1], side, side) for side in _SIDES]
    for shape in candidates:
        with contextlib.suppress(CannotRun):
            trace(network, shape)
            return shape
    raise UsageError("the network takes none of the usual shapes; give that of one example.", "input_shape")
