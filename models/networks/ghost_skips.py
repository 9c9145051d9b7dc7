"""Ghost skips: 1 x 1 skips around the convolutions of existing basic blocks (Jaiswal et al. 2022).

With J1 and J2, a 1 x 1 convolution and batch normalization each, a basic block becomes

    u = act(bn1(conv1(x)) + J1(x))
    y = act(bn2(conv2(u)) + shortcut(x) + J2(u))

The skips are children of the block, `conv_jump1`, `bn_jump1`, `conv_jump2` and `bn_jump2`, as in `JumpBlock`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from models.networks.fading import Fading


class FadingBatchNorm(Fading, nn.BatchNorm2d):
    """Batch normalization, times a strength. (B, C, H, W) float to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Return strength * batchnorm(x). A strength of 0 still has gradients: all of them are zero."""
        return super().forward(x) * self.strength


class _Skip:
    """Hooks around one convolution: one keeps its input, one adds the skip after it."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        self.conv, self.norm = conv, norm
        self.input: Tensor | None = None

    def take(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Keep the input of the convolution. A hook before its forward pass."""
        self.input = inputs[0]

    def add(self, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Add the skip to an output. A hook after the forward pass."""
        assert self.input is not None, "the convolution runs first"
        kept, self.input = self.input, None
        return output + self.norm(self.conv(kept))  # type: ignore[no-any-return]


def add_ghost_skips(
    model: nn.Module, fill: Callable[[Tensor], object], *, scale: float = 1.0, fading: bool = False
) -> int:
    """Add a skip around each 3 x 3 convolution of every basic block, in place; return the number of blocks.

    A skip is added after the batch normalization that follows the convolution in its block. In a block that normalizes
    before it convolves, no batch normalization follows the last convolution; its skip is added to the convolution.

    fill: initializes the weights of the 1 x 1 convolutions. scale: initial value of their batch normalization's scales;
    with 0, the outputs do not change. fading: whether the skips have a strength.
    """
    blocks = list(basic_blocks(model))
    for block, convs in blocks:
        for number, (conv, after) in enumerate(convs, 1):
            device, dtype = conv.weight.device, conv.weight.dtype
            stride = (conv.stride[0], conv.stride[1])
            jump = nn.Conv2d(conv.in_channels, conv.out_channels, 1, stride, bias=False, device=device, dtype=dtype)
            norm = (FadingBatchNorm if fading else nn.BatchNorm2d)(conv.out_channels, device=device, dtype=dtype)
            fill(jump.weight)
            nn.init.constant_(norm.weight, scale)
            block.add_module(f"conv_jump{number}", jump)
            block.add_module(f"bn_jump{number}", norm)
            skip = _Skip(jump, norm)
            conv.register_forward_pre_hook(skip.take)
            after.register_forward_hook(skip.add)
    return len(blocks)


def basic_blocks(model: nn.Module) -> Iterator[tuple[nn.Module, list[tuple[nn.Conv2d, nn.Module]]]]:
    """Yield each basic block without skips, and its convolutions, each with the layer after which a skip is added.

    A basic block is a module with two convolutions that keep the size of images, but for a stride, and two batch
    normalizations, declared in the order in which they run. 1 x 1 convolutions do not count.
    """
    for module in model.modules():
        children = dict(module.named_children())
        layers = list(children.values())
        convs = [layer for layer in layers if isinstance(layer, nn.Conv2d) and _keeps_size(layer)]
        norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
        if len(convs) == len(norms) == 2 and "conv_jump1" not in children and not isinstance(module, nn.Sequential):
            following = [layers[layers.index(conv) + 1 :][:1] for conv in convs]
            after = [next((layer for layer in found if layer in norms), None) for found in following]
            yield module, [(conv, conv if norm is None else norm) for conv, norm in zip(convs, after, strict=True)]


def _keeps_size(conv: nn.Conv2d) -> bool:
    is_centred = conv.padding == tuple((side - 1) / 2 for side in conv.kernel_size)
    return is_centred and conv.kernel_size != (1, 1) and conv.dilation == (1, 1)
