"""Memory of the activations that a backward pass needs, and recomputing blocks to reduce it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from foundations.multiply_adds import in_eval_mode

MOST_ACTIVATIONS = 4 << 30
"""The most bytes of activations that a batch keeps if no micro batch size is given.

Fixed, and independent of the machine's free memory: even where nothing couples the examples of a batch, its size
changes scores by rounding.
"""
MOST_PER_INPUT = 10_000
"""The most numbers that a network keeps for each number of its input (ResNet-20: 130, WideResNet-28-10: 1,500)."""
OF_SECOND_DERIVATIVES = 3
"""Memory of second derivatives relative to a gradient's (2.7 for ResNet-20, 3.0 for VGG-16)."""


def activation_bytes(
    network: nn.Module, example: Any, run: Callable[[nn.Module, Any], Any] = nn.Module.__call__
) -> int:
    """Return the bytes that the backward pass of a network needs besides its parameters, for one example (1, ...).

    The network runs once, in eval mode, and draws no random numbers. run: (network, example) -> the outputs.
    """
    kept: dict[int, torch.Tensor] = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    devices = [device] if (device := next(network.parameters()).device).type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        in_eval_mode(network),
        saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        run(network, example)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def recompute_blocks(network: nn.Module) -> None:
    """Make a network keep only the inputs of its blocks, and recompute each block's activations in the backward pass.

    The blocks are the children of each Sequential and ModuleList that have parameters. Recomputed blocks have the
    weights of their forward pass, also those of a functional call.
    """
    containers = [module for module in network.modules() if isinstance(module, nn.Sequential | nn.ModuleList)]
    blocks = {id(block): block for container in containers for block in container.children()}
    for block in blocks.values():
        if not isinstance(block, nn.Sequential | nn.ModuleList) and any(True for _ in block.parameters()):
            block.forward = functools.partial(_recomputed, _Block(block))


class _Block(nn.Module):
    """A block with its original forward pass, for a functional call of it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.forward = block.forward


def _recomputed(block: _Block, *args: Any, **kwargs: Any) -> Any:
    weights = dict(block.named_parameters())
    return checkpoint(functional_call, block, weights, args, kwargs, use_reentrant=False, preserve_rng_state=False)
