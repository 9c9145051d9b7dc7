"""Residual networks for series."""

from __future__ import annotations

import itertools
from functools import partial

from torch import Tensor, nn

from models.family import NetworkSpec
from models.networks.residual import Block, groups_of_blocks, projection


class SeriesResNet(nn.Module):
    """A residual network of three segments. Input (B, C, T) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()

        def shortcut(inputs: int, outputs: int, stride: int) -> tuple[str, nn.Module]:
            is_identity = stride == 1 and inputs == outputs
            return "shortcut", nn.Sequential() if is_identity else projection(inputs, outputs, stride, dimensions=1)

        self.act = spec.activation
        self.conv = nn.Conv1d(spec.channels, spec.width, 7, padding=3, bias=False)
        self.bn = nn.BatchNorm1d(spec.width)
        block = partial(Block, act=self.act, shortcut=shortcut, dimensions=1)
        segments = groups_of_blocks(block, spec.width, spec.width, [(spec.depth - 2) // 6] * 3)
        self.blocks = nn.Sequential(*itertools.chain(*segments))
        self.fc = nn.Linear(4 * spec.width, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.blocks(self.act(self.bn(self.conv(x))))
        return self.fc(x.mean(dim=2))  # type: ignore[no-any-return]
