"""VGG networks (Simonyan & Zisserman 2015, table 1) as they are used on small images.

    group   filters   convolutions 3 x 3 in VGG-11, 13, 16, 19
    1       64        1  2  2  2     then a 2 x 2 max pool
    2       128       1  2  2  2     then a 2 x 2 max pool
    3       256       2  2  3  4     then a 2 x 2 max pool
    4       512       2  2  3  4     then a 2 x 2 max pool
    5       512       2  2  3  4

A width W, the filters of the first group, scales all of them: 64 by default.

`cifar_vgg` (OpenLTH) ends in a global average and one linear layer. `tinyimagenet_vgg` (Tanaka et al. 2020) ends in a
fifth pool and the three-layer classifier 1024, 1024, classes with dropout.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from models.family import NetworkSpec, family_by_depth

if TYPE_CHECKING:
    from torch import nn

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def cifar_vgg(spec: NetworkSpec) -> nn.Module:
    """Build `cifar_vgg_D[_W]`."""
    from models.networks.vgg_layers import CifarVGG

    return CifarVGG(spec, _CONVOLUTIONS[spec.depth])


def tinyimagenet_vgg(spec: NetworkSpec) -> nn.Module:
    """Build `tinyimagenet_vgg_D[_W]`."""
    from models.networks.vgg_layers import TinyImageNetVGG

    return TinyImageNetVGG(spec, _CONVOLUTIONS[spec.depth])


_family = partial(
    family_by_depth,
    width=64,
    depths=tuple(_CONVOLUTIONS),
    options=frozenset({"activation", "no_batchnorm", "no_conv_bias"}),
)

CIFAR_VGG = _family(cifar_vgg, "cifar_vgg", "OpenLTH", "16 11 13 19")
TINYIMAGENET_VGG = _family(tinyimagenet_vgg, "tinyimagenet_vgg", "Synaptic-Flow", "11 13 16 19", dropout=True)
