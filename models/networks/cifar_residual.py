"""Residual networks for CIFAR-10 (He et al. 2016, section 4.2)."""

from __future__ import annotations

import itertools
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from models.family import NetworkSpec
from models.networks.residual import Block, Bottleneck, groups_of_blocks, projection


class PaddedShortcut(nn.Module):
    """A shortcut without weights: every `stride`-th pixel, padded with zero channels on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


class CifarResNet(nn.Module):
    """A residual network of three segments. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec, *, bottlenecks: bool, padded_shortcuts: bool) -> None:
        super().__init__()

        def shortcut(inputs: int, outputs: int, stride: int) -> tuple[str, nn.Module]:
            changed = PaddedShortcut if padded_shortcuts else projection
            is_identity = stride == 1 and inputs == outputs
            return "shortcut", nn.Sequential() if is_identity else changed(inputs, outputs, stride)

        kind = Bottleneck if bottlenecks else Block
        self.act = spec.activation
        self.conv = nn.Conv2d(spec.channels, spec.width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(spec.width)
        block = partial(kind, act=self.act, shortcut=shortcut)
        segments = groups_of_blocks(block, spec.width, spec.width, [(spec.depth - 2) // 6] * 3, kind.expansion)
        self.blocks = nn.Sequential(*itertools.chain(*segments))
        self.fc = nn.Linear(4 * spec.width * kind.expansion, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.blocks(self.act(self.bn(self.conv(x))))
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]
