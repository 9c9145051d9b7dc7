"""The blocks of transformers, with normalization before each branch, and their published initial values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.dropout import Dropout

Norm = Callable[[int], nn.Module]
"""Makes the normalization of (..., width)."""
STD = 0.02
"""The standard deviation of initial weights in BERT, GPT-2, ViT and DeiT."""


class Mlp(nn.Module):
    """Two linear layers with GELU between them. Input (..., width) float, output of the same shape."""

    def __init__(self, width: int, hidden: int, *, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return fc2(gelu(fc1(x)))."""
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))  # type: ignore[no-any-return]


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020), without biases. Input (..., width) float, output of the same shape."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return down(silu(gate(x)) * up(x))."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and an MLP, each normalized before and added to its input. Input and output (B, T, width) float.

    dropout: the share of entries dropped at the end of each branch. depth:
    the share of examples for which a branch is skipped (stochastic depth, Huang et al. 2016).
    """

    def __init__(
        self,
        width: int,
        attn: nn.Module,
        mlp: nn.Module,
        norm: Norm,
        dropout: float,
        depth: float,
    ) -> None:
        super().__init__()
        self.norm1, self.attn = norm(width), attn
        self.norm2, self.mlp = norm(width), mlp
        self.drop1, self.drop2 = dropped(dropout, depth), dropped(dropout, depth)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return x and both branches. seen: as `Attention` takes it."""
        x = x + self.drop1(self.attn(self.norm1(x), seen))
        return x + self.drop2(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


def dropped(dropout: float, depth: float = 0.0) -> nn.Module:
    """Return dropout of entries, of whole examples, both or none; its random numbers resume."""
    entries = [Dropout(dropout)] if dropout else []
    examples = [Dropout(depth, whole_examples=True)] if depth else []
    return nn.Sequential(*entries, *examples)


def depths_of(rate: float, number: int) -> list[float]:
    """Return the rate of stochastic depth of each block: from 0 in the first to `rate` in the last (DeiT)."""
    return [rate * place / max(1, number - 1) for place in range(number)]


@torch.no_grad()
def initialize_published(network: nn.Module, *, truncated: bool, blocks: int = 0) -> None:
    """Fill weights with N(0, 0.02^2), biases with 0; normalization keeps 1 and 0. Positions count as weights.

    truncated: redraw values beyond two standard deviations (ViT, DeiT). blocks: their number, if the last layer of each
    branch is scaled by 1 / sqrt(2 * blocks), as in GPT-2; 0 for no scaling.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding | nn.Conv2d):
            draw_(module.weight, truncated)
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    if blocks:
        for name, parameter in network.named_parameters():
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight", "mlp.down.weight")):
                parameter.div_(math.sqrt(2 * blocks))


def draw_(tensor: Tensor, truncated: bool) -> None:
    """Fill a tensor in place with N(0, 0.02^2), truncated to two standard deviations where that is asked for."""
    if truncated:
        nn.init.trunc_normal_(tensor, std=STD, a=-2 * STD, b=2 * STD)
    else:
        nn.init.normal_(tensor, std=STD)
