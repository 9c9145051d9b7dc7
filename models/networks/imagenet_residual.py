"""Residual networks for ImageNet (He et al. 2016), with the names of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from models.family import NetworkSpec
from models.networks.residual import Block, Bottleneck, groups_of_blocks, projection


class BasicBlock(Block):
    """The block of two 3 x 3 convolutions, under torchvision's name."""


class JumpBlock(BasicBlock):
    """A basic block with a 1 x 1 'jump' convolution around each of its convolutions (Jaiswal et al. 2022).

    Where `model_init` is as_built, all weights of the jumps are initialized to 1e-4.
    """

    def __init__(self, inputs: int, filters: int, stride: int, **options: Any) -> None:
        super().__init__(inputs, filters, stride, **options)
        self.conv_jump1 = nn.Conv2d(inputs, filters, 1, stride, bias=False)
        self.bn_jump1 = nn.BatchNorm2d(filters)
        self.conv_jump2 = nn.Conv2d(filters, filters, 1, bias=False)
        self.bn_jump2 = nn.BatchNorm2d(filters)
        for jump in (self.conv_jump1, self.conv_jump2):
            nn.init.constant_(jump.weight, 1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output with both jumps added before the activations."""
        out = self.act(self.bn1(self.conv1(x)) + self.bn_jump1(self.conv_jump1(x)))
        shortcut = self._around(x)
        return self.act(self.bn2(self.conv2(out)) + shortcut + self.bn_jump2(self.conv_jump2(out)))


def _shortcut(inputs: int, outputs: int, stride: int) -> tuple[str, nn.Module | None]:
    return "downsample", None if stride == 1 and inputs == outputs else projection(inputs, outputs, stride)


class ResNet(nn.Module):
    """A residual network of four layers of blocks, named as in torchvision."""

    def __init__(
        self,
        spec: NetworkSpec,
        counts: Sequence[int],
        kind: type[BasicBlock | Bottleneck],
        *,
        small_images: bool,
        widening: int,
    ) -> None:
        super().__init__()
        self.act = spec.activation
        if small_images:
            self.conv1 = nn.Conv2d(spec.channels, spec.width, 3, padding=1, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(spec.channels, spec.width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(spec.width)
        block = partial(kind, act=self.act, shortcut=_shortcut, widening=widening)
        layers = groups_of_blocks(block, spec.width, spec.width, counts, kind.expansion)
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc = nn.Linear(spec.width * kind.expansion * 8, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Wrapped(nn.Module):
    """A network under the name `model`, as in OpenLTH's checkpoints. Input (B, C, H, W), output (B, outputs), float."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.model(x)  # type: ignore[no-any-return]
