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

from torch import Tensor, nn

from models.activations import ACTIVATIONS
from models.family import Plan

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, filters: int, stride: int, inner: int, activation: str) -> None:
        """Build the block. inner: unused, the inner filters of bottlenecks."""
        super().__init__()
        self.act = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = _projection(inputs, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn2(conv2(act(bn1(conv1(x))))) + shortcut)."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.act(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, filters: int, stride: int, inner: int, activation: str) -> None:
        super().__init__()
        outputs = filters * self.expansion
        self.act = ACTIVATIONS[activation]
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn3(conv3(...)) + shortcut), with an activation after each convolution before."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.act(out + (x if self.downsample is None else self.downsample(x)))


class JumpBlock(BasicBlock):
    """A basic block whose convolutions are bypassed each by a 1 x 1 'jump' convolution (Jaiswal et al. 2022).

    The jumps begin with all weights 1e-4, as long as `--model_init=as_built`.
    """

    def __init__(self, inputs: int, filters: int, stride: int, inner: int, activation: str) -> None:
        super().__init__(inputs, filters, stride, inner, activation)
        self.conv_jump1 = nn.Conv2d(inputs, filters, 1, stride, bias=False)
        self.bn_jump1 = nn.BatchNorm2d(filters)
        self.conv_jump2 = nn.Conv2d(filters, filters, 1, bias=False)
        self.bn_jump2 = nn.BatchNorm2d(filters)
        for jump in (self.conv_jump1, self.conv_jump2):
            nn.init.constant_(jump.weight, 1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output with both jumps added before the activations."""
        out = self.act(self.bn1(self.conv1(x)) + self.bn_jump1(self.conv_jump1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act(self.bn2(self.conv2(out)) + shortcut + self.bn_jump2(self.conv_jump2(out)))


class ResNet(nn.Module):
    """A residual network of four layers of blocks, named as in torchvision."""

    def __init__(
        self, plan: Plan, *, small_images: bool, widening: int = 1, basic_block: type[BasicBlock] = BasicBlock
    ) -> None:
        super().__init__()
        block: type[BasicBlock | Bottleneck] = basic_block if plan.depth < 50 else Bottleneck
        self.act = ACTIVATIONS[plan.activation]
        if small_images:
            self.conv1 = nn.Conv2d(plan.channels, plan.width, 3, padding=1, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(plan.channels, plan.width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(plan.width)

        def layer(number: int, inputs: int) -> nn.Sequential:
            filters = plan.width * 2 ** (number - 1)
            outputs, inner = filters * block.expansion, filters * widening
            blocks = [block(inputs, filters, 1 if number == 1 else 2, inner, plan.activation)]
            blocks += [
                block(outputs, filters, 1, inner, plan.activation) for _ in range(BLOCKS[plan.depth][number - 1] - 1)
            ]
            return nn.Sequential(*blocks)

        self.layer1 = layer(1, plan.width)
        self.layer2 = layer(2, plan.width * block.expansion)
        self.layer3 = layer(3, plan.width * block.expansion * 2)
        self.layer4 = layer(4, plan.width * block.expansion * 4)
        self.fc = nn.Linear(plan.width * block.expansion * 8, plan.outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Wrapped(nn.Module):
    """A network under the name `model`, as in OpenLTH's checkpoints. Input (B, C, H, W), output (B, outputs), float."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.model(x)  # type: ignore[no-any-return]


def imagenet_resnet(plan: Plan) -> Wrapped:
    """Build `imagenet_resnet_D[_W]` and `tinyimagenet_resnet_D[_W]`."""
    return Wrapped(ResNet(plan, small_images=False))


def modifiedresnet(plan: Plan) -> Wrapped:
    """Build `tinyimagenet_modifiedresnet_D[_W]` and `cifar_modifiedresnet_D[_W]`."""
    return Wrapped(ResNet(plan, small_images=True))


def cifar_jumpresnet(plan: Plan) -> Wrapped:
    """Build `cifar_jumpresnet_D[_W]`."""
    return Wrapped(ResNet(plan, small_images=True, basic_block=JumpBlock))


def imagenet_wideresnet(plan: Plan) -> Wrapped:
    """Build `imagenet_wideresnet_D[_W]`."""
    return Wrapped(ResNet(plan, small_images=False, widening=2))


def tinyimagenet_wideresnet(plan: Plan) -> Wrapped:
    """Build `tinyimagenet_wideresnet_D[_W]`."""
    return Wrapped(ResNet(plan, small_images=True, widening=2))
