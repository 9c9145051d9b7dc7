"""Residual networks for CIFAR-10 (He et al. 2016, section 4.2), with projections where the resolution halves.

    part        resolution   filters   layers
    conv        32 x 32      W         3 x 3
    segment 1   32 x 32      W         n blocks of two 3 x 3
    segment 2   16 x 16      2W        n blocks of two 3 x 3
    segment 3   8 x 8        4W        n blocks of two 3 x 3
    fc          1 x 1                  global average, linear

The depth is 6n + 2. Where a segment halves the resolution, its first block's shortcut is a 1 x 1 convolution with batch
normalization (option B of the paper), which the depth does not count.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from models.registry import Parts


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, inputs: int, filters: int, downsample: bool) -> None:
        super().__init__()
        stride = 2 if downsample else 1
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut = nn.Sequential()
        if downsample or inputs != filters:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """A residual network of three segments. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, depth: int, width: int, channels: int, outputs: int) -> None:
        super().__init__()
        blocks_per_segment = (depth - 2) // 6
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks = []
        inputs = width
        for segment, filters in enumerate((width, 2 * width, 4 * width)):
            for index in range(blocks_per_segment):
                blocks.append(Block(inputs, filters, downsample=segment > 0 and index == 0))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = F.relu(self.bn(self.conv(x)))
        x = self.blocks(x)
        x = x.mean(dim=(2, 3))
        return self.fc(x)  # type: ignore[no-any-return]


def cifar_resnet(parts: Parts, outputs: int, input_shape: tuple[int, int, int]) -> CifarResNet:
    """Build `cifar_resnet_D[_W]` for any number of channels and any resolution."""
    assert parts.depth is not None and parts.width is not None  # the family's pattern and width see to it
    return CifarResNet(parts.depth, parts.width, input_shape[0], outputs)
