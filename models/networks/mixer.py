"""MLP-Mixer (Tolstikhin et al. 2021): MLPs over the patches, then over the channels. timm's names of layers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from models.family import NetworkSpec
from models.networks.transformer import Mlp, depths_of, dropped
from models.networks.vision_transformer import PatchEmbedding, patches_in


class MixerBlock(nn.Module):
    """An MLP over the patches and one over the channels, each added to its input. Input and output (B, T, width)."""

    def __init__(self, patches: int, width: int, dropout: float, depth: float) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.norm1, self.mlp_tokens = norm(width), Mlp(patches, width // 2)
        self.norm2, self.mlp_channels = norm(width), Mlp(width, 4 * width)
        self.drop1, self.drop2 = dropped(dropout, depth), dropped(dropout, depth)

    def forward(self, x: Tensor) -> Tensor:
        """Return x and both branches."""
        x = x + self.drop1(self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2))
        return x + self.drop2(self.mlp_channels(self.norm2(x)))  # type: ignore[no-any-return]


@torch.no_grad()
def initialize_mixer(network: nn.Module) -> None:
    """Fill linear and convolutional weights by `xavier_uniform`, biases with 0; normalization keeps 1 and 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class Mixer(nn.Module):
    """Patches, blocks, the mean, one linear layer. Input (B, C, H, W) float, output (B, outputs) float."""

    def __init__(self, spec: NetworkSpec, *, dropout: float, depth: float) -> None:
        super().__init__()
        patches = patches_in(spec)
        self.stem = PatchEmbedding(spec)
        self.blocks = nn.ModuleList(
            MixerBlock(patches, spec.width, dropout, rate) for rate in depths_of(depth, spec.depth)
        )
        self.norm = nn.LayerNorm(spec.width, eps=1e-6)
        self.head = nn.Linear(spec.width, spec.outputs)
        initialize_mixer(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))  # type: ignore[no-any-return]
