"""The blocks of wide residual networks for small images (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.activations import Activation
from models.family import NetworkSpec


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

    def __init__(self, spec: NetworkSpec, blocks_per_group: int) -> None:
        super().__init__()
        self.act = spec.activation
        self.conv = nn.Conv2d(spec.channels, 16, 3, padding=1, bias=False)
        blocks = []
        inputs = 16
        for group in range(3):
            filters = 16 * spec.width * 2**group
            for index in range(blocks_per_group):
                blocks.append(Block(inputs, filters, 2 if group > 0 and index == 0 else 1, self.act))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.act(self.bn(self.blocks(self.conv(x))))
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]
