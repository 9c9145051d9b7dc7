"""Small networks for tests: the networks of the golden vectors, by `spec`, under OpenLTH's parameter names."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class LeNet(nn.Module):
    def __init__(self, hidden: list[int], classes: int, inputs: int) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        self.fc_layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for layer in self.fc_layers:
            x = F.relu(layer(x))
        return self.fc(x)


class ConvModule(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)))


class VGG(nn.Module):
    def __init__(self, plan: list[int | str], fc_in: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in plan:
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers.append(ConvModule(channels, int(width)))
                channels = int(width)
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(fc_in, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(nn.AvgPool2d(2)(self.layers(x)).flatten(1))


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, depth: int, width: int, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        inputs = width
        for segment in range(3):
            for block in range((depth - 2) // 6):
                outputs = width * 2**segment
                blocks.append(Block(inputs, outputs, 2 if segment > 0 and block == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3)))


class TinyNet(nn.Module):
    """Convolutions with batchnorm, an identity and a projection shortcut, a linear output: small enough for loops."""

    def __init__(self, seed: int = 0, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(2, width, 3, padding=1)
            self.bn = nn.BatchNorm2d(width)
            self.block1 = Block(width, width, 1)
            self.block2 = Block(width, width + 1, 2)
            self.fc = nn.Linear(width + 1, classes)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, std=0.3)

            for name, buffer in self.named_buffers():
                if name.endswith("running_mean"):
                    nn.init.normal_(buffer, std=0.3)
                elif name.endswith("running_var"):
                    nn.init.uniform_(buffer, 0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block2(self.block1(F.relu(self.bn(self.conv(x)))))
        return self.fc(x.mean((2, 3)))


def build(spec: dict[str, Any]) -> nn.Module:
    if spec["family"] == "mnist_lenet":
        inputs = torch.Size(spec["input_shape"]).numel()
        return LeNet(spec["hidden"], spec["classes"], inputs)
    if spec["family"] == "cifar_vgg_like":
        return VGG(spec["plan"], spec["fc_in"], spec["classes"])
    return ResNet(spec["depth"], spec["width"], spec["classes"])
