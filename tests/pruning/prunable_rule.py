"""The rule for pruned and counted weights, written from the parameters of a network, not from the pruning code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pruning.masks.mask import Mask
from pruning.prune import prune

CONVOLUTIONAL_OR_LINEAR = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
NORMALIZATIONS = (
    *BATCHNORMS,
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)


def tensors(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, int]]:
    """Yield name, layer, name in the layer and size of every parameter."""
    for name, parameter in network.named_parameters():
        layer, _, tensor = name.rpartition(".")
        yield name, network.get_submodule(layer), tensor, parameter.numel()


def expected(network: nn.Module, *, kind: type | None = None, biases: bool = False, norms: bool = False) -> set[str]:
    """Return the names of the prunable tensors by the rule, of the default types or of one type."""
    found = set()
    for name, layer, tensor, _ in tensors(network):
        by_default = isinstance(layer, (*CONVOLUTIONAL_OR_LINEAR, nn.MultiheadAttention))
        inside = kind is None or any(
            isinstance(network.get_submodule(outer), kind)
            for outer in ([".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)])
        )
        is_of_kind = kind is not None and isinstance(layer, kind)
        scaled = norms and isinstance(layer, BATCHNORMS)
        if "bias" in tensor:
            if biases and ((by_default and inside) or is_of_kind or scaled):
                found.add(name)
        else:
            is_a_weight = by_default and inside and tensor in ("weight", *PROJECTIONS)
            if is_a_weight or scaled or (is_of_kind and kind not in CONVOLUTIONAL_OR_LINEAR):
                found.add(name)
    return found


def prunable(network: nn.Module, **options: Any) -> Mask:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return prune(network, "magnitude", density=0.5, **options)


def assert_counts(network: nn.Module, mask: Mask, names: set[str]) -> None:
    sizes = {name: size for name, _, _, size in tensors(network)}
    assert set(mask) == names
    assert mask.total == sum(sizes[name] for name in names)
    assert mask.pruned == (mask.total + 1) // 2  # a half rounds up


def train(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take three steps along random gradients of all parameters, independent of the layer's output."""
    for _ in range(3):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
