"""The layers of VGG networks (Simonyan & Zisserman 2015)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.dropout import Dropout
from models.family import NetworkSpec
from models.networks.act import Act

FILTERS = (1, 2, 4, 8, 8)
"""The filters of each group, in units of the width."""


class ConvBlock(nn.Module):
    """A 3 x 3 convolution, batch normalization (or none), and the activation."""

    def __init__(self, inputs: int, filters: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.act = spec.activation
        self.conv = nn.Conv2d(inputs, filters, 3, padding=1, bias=not spec.hparams.no_conv_bias)
        self.bn = nn.Identity() if spec.hparams.no_batchnorm else nn.BatchNorm2d(filters)

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn(conv(x)))."""
        return self.act(self.bn(self.conv(x)))


def features(spec: NetworkSpec, convolutions: Sequence[int], *, final_pool: bool) -> nn.Sequential:
    """Return the convolutions and pools under one numbering, that of OpenLTH.

    convolutions: their number in each group.
    """
    layers: list[nn.Module] = []
    inputs = spec.channels
    for group, (count, filters) in enumerate(zip(convolutions, FILTERS, strict=True), start=1):
        for _ in range(count):
            layers.append(ConvBlock(inputs, spec.width * filters, spec))
            inputs = spec.width * filters
        if group < len(FILTERS) or final_pool:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class CifarVGG(nn.Module):
    """Convolutions, a global average, one linear layer. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec, convolutions: Sequence[int]) -> None:
        super().__init__()
        self.layers = features(spec, convolutions, final_pool=False)
        self.fc = nn.Linear(spec.width * FILTERS[-1], spec.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(self.layers(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


class TinyImageNetVGG(nn.Module):
    """Convolutions and a classifier of three layers. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec, convolutions: Sequence[int]) -> None:
        super().__init__()
        _, height, width = spec.input_shape
        pools = 2 ** len(FILTERS)
        self.layers = features(spec, convolutions, final_pool=True)
        self.classifier = nn.Sequential(
            nn.Linear(spec.width * FILTERS[-1] * (height // pools) * (width // pools), 1024),
            Act(spec.activation),
            Dropout(0.5),
            nn.Linear(1024, 1024),
            Act(spec.activation),
            Dropout(0.5),
            nn.Linear(1024, spec.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.layers(x).flatten(1))  # type: ignore[no-any-return]
