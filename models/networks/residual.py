"""The parts that residual networks for small images, for ImageNet and for series share (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from models.activations import Activation

Shortcut = Callable[[int, int, int], tuple[str, nn.Module | None]]
"""From inputs, outputs and stride to the name of a shortcut in its block, and the shortcut; None for the identity."""


# By the number of dimensions that a convolution runs over: 1 for series, 2 for images.
_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
_BATCHNORMS: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def projection(inputs: int, outputs: int, stride: int, *, dimensions: int = 2) -> nn.Sequential:
    """Return a shortcut with weights: a convolution of size 1 and batch normalization."""
    conv, norm = _CONVOLUTIONS[dimensions], _BATCHNORMS[dimensions]
    return nn.Sequential(conv(inputs, outputs, 1, stride, bias=False), norm(outputs))


class _Residual(nn.Module):
    """The shortcut of a block, under the name that its network gives to it."""

    def __init__(self, act: Activation) -> None:
        super().__init__()
        self.act = act

    def _set_shortcut(self, name: str, shortcut: nn.Module | None) -> None:
        self._shortcut_name = name
        setattr(self, name, shortcut)

    def _around(self, x: Tensor) -> Tensor:
        shortcut = getattr(self, self._shortcut_name)
        return x if shortcut is None else shortcut(x)


class Block(_Residual):
    """Two convolutions of size 3 and a shortcut, over images or series."""

    expansion = 1

    def __init__(
        self,
        inputs: int,
        filters: int,
        stride: int,
        *,
        act: Activation,
        shortcut: Shortcut,
        widening: int = 1,
        dimensions: int = 2,
    ) -> None:
        """Take the arguments of all blocks. widening: the factor of the inner filters of bottlenecks, unused here."""
        super().__init__(act)
        conv, norm = _CONVOLUTIONS[dimensions], _BATCHNORMS[dimensions]
        self.conv1 = conv(inputs, filters, 3, stride, padding=1, bias=False)
        self.bn1 = norm(filters)
        self.conv2 = conv(filters, filters, 3, padding=1, bias=False)
        self.bn2 = norm(filters)
        self._set_shortcut(*shortcut(inputs, filters, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn2(conv2(act(bn1(conv1(x))))) + shortcut(x))."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.act(out + self._around(x))


class Bottleneck(_Residual):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut."""

    expansion = 4

    def __init__(
        self, inputs: int, filters: int, stride: int, *, act: Activation, shortcut: Shortcut, widening: int = 1
    ) -> None:
        super().__init__(act)
        outputs, inner = filters * self.expansion, filters * widening
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self._set_shortcut(*shortcut(inputs, outputs, stride))

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn3(conv3(...)) + shortcut(x)), with an activation after each of the first two convolutions."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.act(out + self._around(x))


def groups_of_blocks(
    block: Callable[[int, int, int], nn.Module], inputs: int, filters: int, counts: Sequence[int], expansion: int = 1
) -> list[nn.Sequential]:
    """Return groups of blocks: each has twice the filters of the one before, and half its resolution.

    block: makes a block from its inputs, its filters and its stride. inputs: the channels that the first block takes.
    filters: of the first group. counts: the number of blocks in each group. expansion: the outputs of a block, relative
    to its filters.
    """
    groups = []
    for group, count in enumerate(counts):
        blocks = []
        for index in range(count):
            blocks.append(block(inputs, filters, 2 if group > 0 and index == 0 else 1))
            inputs = filters * expansion
        groups.append(nn.Sequential(*blocks))
        filters *= 2
    return groups
