"""Wide residual networks for small images (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor, nn

from models.activations import Activation
from models.family import NetworkSpec
from models.networks.residual import groups_of_blocks


class Block(nn.Module):
    """Two 3 x 3 convolutions, each after batch normalization and activation, and a shortcut."""

    def __init__(self, inputs: int, filters: int, stride: int, act: Activation) -> None:
        super().__init__()
        self.act = act
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.shortcut = None if inputs == filters else nn.Conv2d(inputs, filters, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return conv2(act(bn2(conv1(act(bn1(x)))))) + shortcut."""
        activated = self.act(self.bn1(x))
        out = self.conv2(self.act(self.bn2(self.conv1(activated))))
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(activated)
        return torch.add(out, shortcut)


class WideResNet(nn.Module):
    """A wide residual network of three groups. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.act = spec.activation
        self.conv = nn.Conv2d(spec.channels, 16, 3, padding=1, bias=False)
        filters = 16 * spec.width
        groups = groups_of_blocks(partial(Block, act=self.act), 16, filters, [(spec.depth - 4) // 6] * 3)
        self.blocks = nn.Sequential(*itertools.chain(*groups))
        self.bn = nn.BatchNorm2d(4 * filters)
        self.fc = nn.Linear(4 * filters, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.act(self.bn(self.blocks(self.conv(x))))
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]
