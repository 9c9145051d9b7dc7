"""VGG networks (Simonyan & Zisserman 2015, table 1) as they are used on small images.

    group   filters   convolutions 3 x 3 in VGG-11, 13, 16, 19
    1       64        1  2  2  2     then a 2 x 2 max pool
    2       128       1  2  2  2     then a 2 x 2 max pool
    3       256       2  2  3  4     then a 2 x 2 max pool
    4       512       2  2  3  4     then a 2 x 2 max pool
    5       512       2  2  3  4

`cifar_vgg` (OpenLTH) ends in a global average and one linear layer. `tinyimagenet_vgg` (Tanaka et al. 2020) ends in a
fifth pool and the three-layer classifier 1024, 1024, classes with dropout.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.activations import ACTIVATIONS, Activation
from models.convnets import Act
from models.dropout import Dropout
from models.family import Plan

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
FILTERS = (64, 128, 256, 512, 512)


class ConvBlock(nn.Module):
    """A 3 x 3 convolution, batch normalization (or none), and the activation."""

    def __init__(self, inputs: int, filters: int, plan: Plan) -> None:
        super().__init__()
        self.act: Activation = ACTIVATIONS[plan.activation]
        self.conv = nn.Conv2d(inputs, filters, 3, padding=1, bias=plan.conv_bias)
        self.bn = nn.BatchNorm2d(filters) if plan.batchnorm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn(conv(x)))."""
        return self.act(self.bn(self.conv(x)))


def features(plan: Plan, *, final_pool: bool) -> nn.Sequential:
    """Return the convolutions and pools, numbered through as OpenLTH numbers them."""
    layers: list[nn.Module] = []
    inputs = plan.channels
    for group, (count, filters) in enumerate(zip(CONVOLUTIONS[plan.depth], FILTERS, strict=True), start=1):
        for _ in range(count):
            layers.append(ConvBlock(inputs, filters, plan))
            inputs = filters
        if group < len(FILTERS) or final_pool:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class CifarVGG(nn.Module):
    """Convolutions, a global average, one linear layer. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.layers = features(plan, final_pool=False)
        self.fc = nn.Linear(FILTERS[-1], plan.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(self.layers(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


class TinyImageNetVGG(nn.Module):
    """Convolutions and a classifier of three layers. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        _, height, width = plan.input_shape
        pools = 2 ** len(FILTERS)
        self.layers = features(plan, final_pool=True)
        self.classifier = nn.Sequential(
            nn.Linear(FILTERS[-1] * (height // pools) * (width // pools), 1024),
            Act(plan.activation),
            Dropout(0.5),
            nn.Linear(1024, 1024),
            Act(plan.activation),
            Dropout(0.5),
            nn.Linear(1024, plan.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.layers(x).flatten(1))  # type: ignore[no-any-return]
