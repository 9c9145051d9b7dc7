"""Self-attention (Vaswani et al. 2017), with one linear layer for queries, keys and values, and rotary positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.errors import UsageError

ROTARY_BASE = 10_000.0


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021): pairs of entries turned by angles that grow with the position.

    Entry i is paired with entry i + head_width / 2, as in LLaMA's code at Hugging Face.
    Input (B, heads, T, head_width) float, output of the same shape.
    """

    angles: Tensor

    def __init__(self, head_width: int, length: int) -> None:
        super().__init__()
        if head_width % 2:
            raise UsageError(f"rotary positions need heads of an even width, not {head_width}.", "model_name")
        frequencies = ROTARY_BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
        angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
        self.register_buffer("angles", torch.cat((angles, angles), dim=1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x, turned."""
        angles = self.angles[: x.shape[-2]]
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        return x * angles.cos().to(x.dtype) + turned * angles.sin().to(x.dtype)


class Attention(nn.Module):
    """Self-attention of several heads. Input (B, T, width) float, output of the same shape.

    causal: whether a token sees only itself and those before it. rotary: the length for which to prepare rotary
    positions; 0 for none.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = True, causal: bool = False, rotary: int = 0) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"a width of {width} cannot be divided among {heads} heads.", "model_name")
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width, bias=bias)
        self.rotary = Rotary(width // heads, rotary) if rotary else None

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the attention's output. seen: (B, 1, 1, T) bool, False for padding, which no token attends to."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if self.rotary is not None:
            q, k = self.rotary(q), self.rotary(k)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]
