"""Wide residual networks for small images (Zagoruyko & Komodakis 2016, table 1, without dropout).

    group    resolution   filters   layers
    conv1    32 x 32      16        3 x 3
    conv2    32 x 32      16K       n blocks of two 3 x 3
    conv3    16 x 16      32K       n blocks of two 3 x 3
    conv4    8 x 8        64K       n blocks of two 3 x 3
    fc       1 x 1                  batch normalization, activation, global average, linear

The depth is 6n + 4. Blocks normalize and activate before each convolution; where the number of channels changes, the
shortcut is a 1 x 1 convolution of the activated input.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from models.family import DEPTH, WIDTH, Family, NetworkSpec

if TYPE_CHECKING:
    from torch import nn


def wideresnet(spec: NetworkSpec) -> nn.Module:
    """Build `cifar_wideresnet_D_K`."""
    from models.networks.wide_residual import WideResNet

    return WideResNet(spec)


CIFAR_WIDERESNET = Family(
    spelling="cifar_wideresnet_D_K",
    pattern=f"cifar_wideresnet{DEPTH}{WIDTH}",
    builder=wideresnet,
    source="Zagoruyko & Komodakis 2016",
    examples=("cifar_wideresnet_28_10", "cifar_wideresnet_16_8", "cifar_wideresnet_40_4"),
    depths=range(10, sys.maxsize, 6),
)
