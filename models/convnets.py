"""Small convolutional networks without batch normalization, from the code of three papers.

    synflow_conv          conv 3x3 32, conv 3x3 32, output                               (Tanaka et al. 2020, 'conv')
    tost_lenet5_mnist     conv 3x3 64 twice, pool, 256, 256, output                      (the lottery-ticket code of
    tost_lenet5_cifar     conv 5x5 6, pool, conv 5x5 16, pool, 120, 84, output           Jaiswal et al. 2022)
    tost_alexnet          conv 3x3/2 64, pool, conv 5x5 192, pool, conv 3x3 384, 256, 256, pool, 4096, 4096, output

Every convolution keeps the resolution unless it has a stride, but for the 5 x 5 ones of tost_lenet5_cifar (no padding).
Pools are 2 x 2 maxima. tost_alexnet averages to 6 x 6 before its fully-connected layers.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.family import Plan


class Act(nn.Module):
    """An activation function as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's value at each entry."""
        return self.function(x)


def synflow_conv(plan: Plan) -> nn.Sequential:
    """Build `synflow_conv`."""
    _, height, width = plan.input_shape
    return nn.Sequential(
        nn.Conv2d(plan.channels, 32, 3, padding=1),
        Act(plan.activation),
        nn.Conv2d(32, 32, 3, padding=1),
        Act(plan.activation),
        nn.Flatten(),
        nn.Linear(32 * height * width, plan.outputs),
    )


def tost_lenet5_mnist(plan: Plan) -> nn.Sequential:
    """Build `tost_lenet5_mnist`."""
    _, height, width = plan.input_shape
    act = plan.activation
    return nn.Sequential(
        nn.Conv2d(plan.channels, 64, 3, padding=1),
        Act(act),
        nn.Conv2d(64, 64, 3, padding=1),
        Act(act),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 2) * (width // 2), 256),
        Act(act),
        nn.Linear(256, 256),
        Act(act),
        nn.Linear(256, plan.outputs),
    )


def tost_lenet5_cifar(plan: Plan) -> nn.Sequential:
    """Build `tost_lenet5_cifar`."""
    _, height, width = plan.input_shape
    act = plan.activation
    return nn.Sequential(
        nn.Conv2d(plan.channels, 6, 5),
        Act(act),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        Act(act),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * _after_two(height) * _after_two(width), 120),
        Act(act),
        nn.Linear(120, 84),
        Act(act),
        nn.Linear(84, plan.outputs),
    )


def tost_alexnet(plan: Plan) -> nn.Sequential:
    """Build `tost_alexnet`."""
    act = plan.activation
    return nn.Sequential(
        nn.Conv2d(plan.channels, 64, 3, stride=2, padding=1),
        Act(act),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 192, 5, padding=2),
        Act(act),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 384, 3, padding=1),
        Act(act),
        nn.Conv2d(384, 256, 3, padding=1),
        Act(act),
        nn.Conv2d(256, 256, 3, padding=1),
        Act(act),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(256 * 6 * 6, 4096),
        Act(act),
        nn.Linear(4096, 4096),
        Act(act),
        nn.Linear(4096, plan.outputs),
    )


def _after_two(side: int) -> int:
    """Return what two unpadded 5 x 5 convolutions, each with a pool, leave of a side."""
    return ((side - 4) // 2 - 4) // 2
