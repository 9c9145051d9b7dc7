"""Scales on identity shortcuts: one for each channel, which can be pruned (Synaptic-Flow's --prune-residual).

A block whose shortcut is its input, y = act(f(x) + x), becomes y = act(f(x) + s x). The scales s are 1 and are not
trained; pruning one removes the shortcut of that channel.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class ShortcutScale(nn.Module):
    """The scales of a shortcut. (B, C, H, W) float to the same."""

    def __init__(self, channels: int, like: Tensor) -> None:
        """Take the number of channels, and a tensor with the device and dtype of the scales."""
        super().__init__()
        ones = torch.ones(channels, device=like.device, dtype=like.dtype)
        self.weight = nn.Parameter(ones, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input times the scale of each channel."""
        return x * self.weight[:, None, None]


def add_shortcut_scales(model: nn.Module) -> int:
    """Put scales on every identity shortcut of a residual network, in place; return the number of shortcuts.

    Blocks are those of open_prune's residual networks for CIFAR and ImageNet, and of torchvision's ResNets.
    """
    shortcuts = list(_identity_shortcuts(model))
    for block, name in shortcuts:
        norm = [layer for layer in block.children() if isinstance(layer, nn.BatchNorm2d)][-1]
        setattr(block, name, ShortcutScale(norm.num_features, norm.weight))
    return len(shortcuts)


def _identity_shortcuts(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield each block whose shortcut is its input, and the name of the shortcut in it."""
    for block in model.modules():
        if not any(isinstance(layer, nn.BatchNorm2d) for layer in block.children()):
            continue
        if isinstance(getattr(block, "conv1", None), nn.Conv2d) and getattr(block, "downsample", block) is None:
            yield block, "downsample"
        shortcut = getattr(block, "shortcut", None)
        if isinstance(shortcut, nn.Sequential) and len(shortcut) == 0:
            yield block, "shortcut"
