"""Residual networks for CIFAR-10 (He et al. 2016, section 4.2).

    part        resolution   filters   layers
    conv        32 x 32      W         3 x 3
    segment 1   32 x 32      W         n blocks of two 3 x 3
    segment 2   16 x 16      2W        n blocks of two 3 x 3
    segment 3   8 x 8        4W        n blocks of two 3 x 3
    fc          1 x 1                  global average, linear

The depth is 6n + 2. Where a segment halves the resolution, the shortcut of its first block is
    `cifar_resnet` (OpenLTH and most)      a 1 x 1 convolution with batch normalization (option B of the paper)
    `cifar_resnet_a` (the paper's choice)  every other pixel, and zeros for the new channels (option A)
and `cifar_bottleneckresnet` has blocks of 1 x 1, 3 x 3, 1 x 1 with four times the filters at their ends.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from models.family import NetworkSpec, family_by_depth

if TYPE_CHECKING:
    from torch import nn


def resnet(spec: NetworkSpec, *, bottlenecks: bool = False, padded_shortcuts: bool = False) -> nn.Module:
    """Build a network of one kind of blocks, with one kind of shortcuts."""
    from models.networks.cifar_residual import CifarResNet

    return CifarResNet(spec, bottlenecks=bottlenecks, padded_shortcuts=padded_shortcuts)


_family = partial(family_by_depth, width=16, depths=range(8, sys.maxsize, 6))

CIFAR_RESNET = _family(resnet, "cifar_resnet", "OpenLTH", "20 8 14 32 44 56 110 20_32 32_32 20_64")
DIGITS_RESNET = _family(resnet, "digits_resnet", "cifar_resnet for the 8x8 digits", "8 14")
CIFAR_RESNET_A = _family(
    partial(resnet, padded_shortcuts=True),
    "cifar_resnet_a",
    "He et al. 2016 (option A); ToST's resnet20s",
    "20 44 56",
)
CIFAR_BOTTLENECKRESNET = _family(
    partial(resnet, bottlenecks=True), "cifar_bottleneckresnet", "ToST's oresnet of depth 54 and more", "56 110"
)
