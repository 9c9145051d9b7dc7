"""Vision transformers (Dosovitskiy et al. 2021), with timm's names of layers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from models.family import NetworkSpec
from models.networks.attention import Attention
from models.networks.transformer import Block, Mlp, depths_of, draw_, dropped, initialize_published


class PatchEmbedding(nn.Module):
    """Cut images into patches and map each by one linear layer, a convolution with a stride.

    Input (B, C, H, W) float, output (B, patches, width) float, the patches row by row.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.proj = nn.Conv2d(spec.channels, spec.width, spec.patch, stride=spec.patch)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedded patches."""
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


def patches_in(spec: NetworkSpec) -> int:
    """Return the number of patches of an image. Raises: UsageError if they do not cover it exactly."""
    _, height, width = spec.input_shape
    if height % spec.patch or width % spec.patch:
        raise UsageError(f"images of {height} x {width} cannot be cut into patches of {spec.patch}.", "model_name")
    return (height // spec.patch) * (width // spec.patch)


class VisionTransformer(nn.Module):
    """Patches, learned positions, blocks, one linear layer. Input (B, C, H, W) float, output (B, outputs) float.

    pooling: `class` reads the answer from a token put before the patches, `mean` from the average of the patches.
    """

    def __init__(self, spec: NetworkSpec, *, heads: int, pooling: str, dropout: float, depth: float) -> None:
        super().__init__()
        width, norm = spec.width, partial(nn.LayerNorm, eps=1e-6)
        has_token = pooling == "class"
        self.patch_embed = PatchEmbedding(spec)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if has_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, patches_in(spec) + has_token, width))
        self.drop = dropped(dropout)
        self.blocks = nn.ModuleList(
            Block(width, Attention(width, heads), Mlp(width, 4 * width), norm, dropout, rate)
            for rate in depths_of(depth, spec.depth)
        )
        self.norm = norm(width)
        self.head = nn.Linear(width, spec.outputs)
        initialize_published(self, truncated=True)
        draw_(self.pos_embed, truncated=True)
        if self.cls_token is not None:
            draw_(self.cls_token, truncated=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = self.drop(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x.mean(1) if self.cls_token is None else x[:, 0])  # type: ignore[no-any-return]
