"""The blocks of residual networks for CIFAR-10 (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from models.activations import Activation
from models.family import NetworkSpec

Shortcut = Callable[[int, int, int], nn.Module]


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a shortcut with weights: a 1 x 1 convolution and batch normalization."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class PaddedShortcut(nn.Module):
    """A shortcut without weights: every `stride`-th pixel, padded with zero channels on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, filters: int, stride: int, act: Activation, shortcut: Shortcut) -> None:
        super().__init__()
        self.act = act
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut = shortcut(inputs, filters, stride) if stride != 1 or inputs != filters else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn2(conv2(act(bn1(conv1(x))))) + shortcut(x))."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.act(out + self.shortcut(x))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, filters: int, stride: int, act: Activation, shortcut: Shortcut) -> None:
        super().__init__()
        outputs = filters * self.expansion
        self.act = act
        self.conv1 = nn.Conv2d(inputs, filters, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv3 = nn.Conv2d(filters, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride) if stride != 1 or inputs != outputs else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn3(conv3(...)) + shortcut(x)), with an activation after each of the first two convolutions."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.act(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """A residual network of three segments. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(
        self, spec: NetworkSpec, blocks_per_segment: int, block: type[Block | Bottleneck], shortcut: Shortcut
    ) -> None:
        super().__init__()
        self.act = spec.activation
        self.conv = nn.Conv2d(spec.channels, spec.width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(spec.width)
        blocks: list[nn.Module] = []
        inputs = spec.width
        for segment in range(3):
            filters = spec.width * 2**segment
            for index in range(blocks_per_segment):
                stride = 2 if segment > 0 and index == 0 else 1
                blocks.append(block(inputs, filters, stride, self.act, shortcut))
                inputs = filters * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.act(self.bn(self.conv(x)))
        x = self.blocks(x)
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]
