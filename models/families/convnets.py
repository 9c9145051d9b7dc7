"""Small convolutional networks without batch normalization, from the code of three papers.

    synflow_conv          conv 3x3 32, conv 3x3 32, output                               (Tanaka et al. 2020, 'conv')
    tost_lenet5_mnist     conv 3x3 64 twice, pool, 256, 256, output                      (the lottery-ticket code of
    tost_lenet5_cifar     conv 5x5 6, pool, conv 5x5 16, pool, 120, 84, output           Jaiswal et al. 2022)
    tost_alexnet          conv 3x3/2 64, pool, conv 5x5 192, pool, conv 3x3 384, 256, 256, pool, 4096, 4096, output

Every convolution keeps the resolution unless it has a stride, except the 5 x 5 ones of tost_lenet5_cifar (no padding).
Pools are 2 x 2 maxima. tost_alexnet averages to 6 x 6 before its fully-connected layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.family import Family, NetworkSpec

if TYPE_CHECKING:
    from torch import nn


def synflow_conv(spec: NetworkSpec) -> nn.Module:
    """Build `synflow_conv`."""
    from torch import nn

    _, height, width = spec.input_shape
    return _network(
        spec,
        nn.Conv2d(spec.channels, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.Flatten(),
        nn.Linear(32 * height * width, spec.outputs),
    )


def tost_lenet5_mnist(spec: NetworkSpec) -> nn.Module:
    """Build `tost_lenet5_mnist`."""
    from torch import nn

    _, height, width = spec.input_shape
    return _network(
        spec,
        nn.Conv2d(spec.channels, 64, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 2) * (width // 2), 256),
        nn.Linear(256, 256),
        nn.Linear(256, spec.outputs),
    )


def tost_lenet5_cifar(spec: NetworkSpec) -> nn.Module:
    """Build `tost_lenet5_cifar`."""
    from torch import nn

    _, height, width = spec.input_shape
    return _network(
        spec,
        nn.Conv2d(spec.channels, 6, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * _after_two(height) * _after_two(width), 120),
        nn.Linear(120, 84),
        nn.Linear(84, spec.outputs),
    )


def tost_alexnet(spec: NetworkSpec) -> nn.Module:
    """Build `tost_alexnet`."""
    from torch import nn

    return _network(
        spec,
        nn.Conv2d(spec.channels, 64, 3, stride=2, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096),
        nn.Linear(4096, 4096),
        nn.Linear(4096, spec.outputs),
    )


def _network(spec: NetworkSpec, *layers: nn.Module) -> nn.Sequential:
    """Return the layers, with an activation after each convolution and each linear layer but the last."""
    from torch import nn

    from models.networks.act import Act

    parts: list[nn.Module] = []
    for layer in layers:
        parts += [layer, Act(spec.activation)] if isinstance(layer, nn.Conv2d | nn.Linear) else [layer]
    return nn.Sequential(*parts[:-1])


def _after_two(side: int) -> int:
    """Return the side of an image after two unpadded 5 x 5 convolutions, each followed by a pool."""
    return ((side - 4) // 2 - 4) // 2


SYNFLOW_CONV = Family(spelling="synflow_conv", builder=synflow_conv, source="Synaptic-Flow", batchnorm=False)
TOST_LENET5_MNIST = Family(spelling="tost_lenet5_mnist", builder=tost_lenet5_mnist, source="ToST", batchnorm=False)
TOST_LENET5_CIFAR = Family(spelling="tost_lenet5_cifar", builder=tost_lenet5_cifar, source="ToST", batchnorm=False)
TOST_ALEXNET = Family(spelling="tost_alexnet", builder=tost_alexnet, source="ToST", batchnorm=False)
