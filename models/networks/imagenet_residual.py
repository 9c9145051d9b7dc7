"""The blocks of residual networks for ImageNet (He et al. 2016), with the names of torchvision."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.activations import Activation
from models.family import NetworkSpec


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, filters: int, stride: int, inner: int, act: Activation) -> None:
        """Take the arguments of all blocks. inner: the inner filters of bottlenecks, unused here."""
        super().__init__()
        self.act = act
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

    def __init__(self, inputs: int, filters: int, stride: int, inner: int, act: Activation) -> None:
        super().__init__()
        outputs = filters * self.expansion
        self.act = act
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return act(bn3(conv3(...)) + shortcut), with an activation after each of the first two convolutions."""
        out = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.act(out + (x if self.downsample is None else self.downsample(x)))


class JumpBlock(BasicBlock):
    """A basic block with a 1 x 1 'jump' convolution around each of its convolutions (Jaiswal et al. 2022).

    Where `model_init` is as_built, all weights of the jumps are initialized to 1e-4.
    """

    def __init__(self, inputs: int, filters: int, stride: int, inner: int, act: Activation) -> None:
        super().__init__(inputs, filters, stride, inner, act)
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
        self,
        spec: NetworkSpec,
        blocks: Sequence[int],
        block: type[BasicBlock | Bottleneck],
        *,
        small_images: bool,
        widening: int,
    ) -> None:
        super().__init__()
        self.act = spec.activation
        if small_images:
            self.conv1 = nn.Conv2d(spec.channels, spec.width, 3, padding=1, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(spec.channels, spec.width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(spec.width)

        def layer(number: int, inputs: int) -> nn.Sequential:
            filters = spec.width * 2 ** (number - 1)
            outputs, inner = filters * block.expansion, filters * widening
            first = block(inputs, filters, 1 if number == 1 else 2, inner, self.act)
            rest = [block(outputs, filters, 1, inner, self.act) for _ in range(blocks[number - 1] - 1)]
            return nn.Sequential(first, *rest)

        self.layer1 = layer(1, spec.width)
        self.layer2 = layer(2, spec.width * block.expansion)
        self.layer3 = layer(3, spec.width * block.expansion * 2)
        self.layer4 = layer(4, spec.width * block.expansion * 4)
        self.fc = nn.Linear(spec.width * block.expansion * 8, spec.outputs)

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
