"""Residual networks for ImageNet (He et al. 2016, table 1), with the stride of a bottleneck in its 3 x 3 (version 1.5).

    part     ImageNet stem, 224   filters   18       34       50       101      152      200
    conv1    112 x 112            W         7 x 7, stride 2, then a 3 x 3 max pool, stride 2
    layer1   56 x 56              W         2        3        3        3        3        3     blocks
    layer2   28 x 28              2W        2        4        4        4        8        24
    layer3   14 x 14              4W        2        6        6        23       36       36
    layer4   7 x 7                8W        2        3        3        3        3        3
    fc       1 x 1                          global average, linear

18 and 34 have blocks of two 3 x 3 convolutions, the deeper ones bottlenecks (1 x 1, 3 x 3, 1 x 1 with four times the
filters). The stem for small images ('modified') is a 3 x 3 convolution without stride and no pool. Wide networks
(Zagoruyko & Komodakis 2016) have bottlenecks whose inner filters are doubled. The names of parameters are
torchvision's, under `model.` as OpenLTH has them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.family import NetworkSpec, family_by_depth

if TYPE_CHECKING:
    from torch import nn

_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def resnet(spec: NetworkSpec, *, small_images: bool = False, widening: int = 1, jumps: bool = False) -> nn.Module:
    """Build a network with the stem for ImageNet or for small images, and one kind of blocks.

    widening: the factor of the inner filters of bottlenecks. jumps: whether basic blocks are ToST's.
    """
    from models.networks.imagenet_residual import BasicBlock, JumpBlock, ResNet, Wrapped
    from models.networks.residual import Bottleneck

    block = Bottleneck if spec.depth >= 50 else JumpBlock if jumps else BasicBlock
    return Wrapped(ResNet(spec, _BLOCKS[spec.depth], block, small_images=small_images, widening=widening))


_family = partial(family_by_depth, width=64, depths=tuple(_BLOCKS))
_small = partial(resnet, small_images=True)

CIFAR_MODIFIEDRESNET = _family(
    _small, "cifar_modifiedresnet", "ResNet with a 3x3 stem (PHEW, ToST, Synaptic-Flow)", "18 34 50 101 152"
)
CIFAR_JUMPRESNET = _family(
    partial(_small, jumps=True),
    "cifar_jumpresnet",
    "ToST's resnet_modified: 1x1 skips around each convolution",
    "18 34",
    depths=(18, 34),
)
TINYIMAGENET_RESNET = _family(resnet, "tinyimagenet_resnet", "Missing the Mark", "18 50")
TINYIMAGENET_MODIFIEDRESNET = _family(_small, "tinyimagenet_modifiedresnet", "Missing the Mark", "18 50")
TINYIMAGENET_WIDERESNET = _family(
    partial(_small, widening=2), "tinyimagenet_wideresnet", "Synaptic-Flow", "50 101 152", depths=(50, 101, 152)
)
IMAGENET_RESNET = _family(resnet, "imagenet_resnet", "OpenLTH", "50 18 34 101 152 200 18_128 50_128")
IMAGENET_WIDERESNET = _family(
    partial(resnet, widening=2),
    "imagenet_wideresnet",
    "Zagoruyko & Komodakis 2016; Synaptic-Flow",
    "50 101",
    depths=(50, 101),
)
