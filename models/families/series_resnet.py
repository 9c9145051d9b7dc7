"""Residual networks for series: the networks of He et al. 2016 for small images, with 1-dimensional convolutions.

    part        positions   filters   layers
    conv        T           W         7
    segment 1   T           W         n blocks of two convolutions of 3
    segment 2   T / 2       2W        n blocks of two convolutions of 3
    segment 3   T / 4       4W        n blocks of two convolutions of 3
    fc          1                     global average, linear

The depth is 6n + 2. Each convolution is followed by batch normalization; shortcuts that change the number of filters
are convolutions of 1 with batch normalization.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from foundations.inputs import SERIES
from models.family import NetworkSpec, family_by_depth

if TYPE_CHECKING:
    from torch import nn


def resnet1d(spec: NetworkSpec) -> nn.Module:
    """Build `resnet1d_D_W`, for series of any length."""
    from models.networks.series_residual import SeriesResNet

    return SeriesResNet(spec)


RESNET1D = family_by_depth(
    resnet1d,
    "resnet1d",
    "He et al. 2016, on series",
    "8 20 20_64",
    width=16,
    depths=range(8, sys.maxsize, 6),
    inputs=frozenset({SERIES}),
)
