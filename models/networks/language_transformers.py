"""Transformers on tokens: GPT-2's and LLaMA's layout, which see earlier tokens only, and an encoder, which sees all.

Padding, a token of the vocabulary, is never attended to by other tokens of an encoder; in the others it stands at the
end, where no token looks.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from models.family import NetworkSpec
from models.networks.attention import Attention
from models.networks.transformer import Block, GatedMlp, Mlp, depths_of, dropped, initialize_published
from models.prunable_default import PrunableDefault


class TokenTransformer(nn.Module):
    """Embedded tokens, blocks, one linear layer. Input (B, T) int64, T at most that of the inputs.

    Output (B, T, outputs) float, for each token; or (B, outputs) from the last token that is not padding (causal) or
    from the mean of all that are not (encoder).
    """

    def __init__(
        self, spec: NetworkSpec, blocks: list[Block], norm: nn.Module, *, positions: bool, dropout: float
    ) -> None:
        super().__init__()
        inputs = spec.inputs
        self.length, self.padding, self.per_token = inputs.shape[0], inputs.padding, inputs.per_token
        self.tokens = nn.Embedding(inputs.vocabulary, spec.width)
        self.positions = nn.Embedding(self.length, spec.width) if positions else None
        self.drop = dropped(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def features(self, tokens: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the normalized output of the last block, (B, T, width) float. seen: as `Attention` takes it.

        Raises: UsageError for sequences that are too long.
        """
        if tokens.shape[1] > self.length:
            raise UsageError(f"this network takes {self.length} tokens, not {tokens.shape[1]}.", "sequence_length")
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.drop(x)
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x)  # type: ignore[no-any-return]


class Decoder(TokenTransformer):
    """A causal transformer; the head is tied to the embeddings if it predicts tokens and `tied` is set."""

    def __init__(
        self, spec: NetworkSpec, blocks: list[Block], norm: nn.Module, *, tied: bool, positions: bool, dropout: float
    ) -> None:
        super().__init__(spec, blocks, norm, positions=positions, dropout=dropout)
        self.head = nn.Linear(spec.width, spec.outputs, bias=False)
        if tied and self.per_token:
            if spec.outputs != spec.inputs.vocabulary:
                reason = f"the head is tied to the embeddings of {spec.inputs.vocabulary} tokens"
                raise UsageError(f"{reason}, so it cannot have {spec.outputs} outputs.", "outputs")
            self.head.weight = self.tokens.weight
        if self.per_token:
            self.prunable_default = PrunableDefault(without=("head",))
        initialize_published(self, truncated=False, blocks=spec.depth)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        x = self.features(tokens)
        if not self.per_token:
            x = x[torch.arange(len(x), device=x.device), self._last(tokens)]
        return self.head(x)  # type: ignore[no-any-return]

    def _last(self, tokens: Tensor) -> Tensor:
        """Return the place of the last token that is not padding, (B,) int64; the first if all are."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return (places * (tokens != (-1 if self.padding is None else self.padding))).amax(1)


class Encoder(TokenTransformer):
    """A transformer whose tokens see all others but padding; one answer for each sequence."""

    def __init__(self, spec: NetworkSpec, blocks: list[Block], norm: nn.Module, *, dropout: float) -> None:
        super().__init__(spec, blocks, norm, positions=True, dropout=dropout)
        self.head = nn.Linear(spec.width, spec.outputs)
        initialize_published(self, truncated=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        if self.padding is None:
            return self.head(self.features(tokens).mean(1))  # type: ignore[no-any-return]
        counts = tokens != self.padding
        seen = counts | ~counts.any(1, keepdim=True)  # a sequence of padding alone sees itself
        x = self.features(tokens, seen[:, None, None])
        weights = seen[..., None].to(x.dtype)
        return self.head((x * weights).sum(1) / weights.sum(1))  # type: ignore[no-any-return]


def gpt(spec: NetworkSpec, *, dropout: float, depth: float) -> nn.Module:
    """Build a network with GPT-2's layout (Radford et al. 2019): learned positions, GELU (tanh), a tied head."""
    norm = partial(nn.LayerNorm, eps=1e-5)
    blocks = [
        Block(
            spec.width,
            Attention(spec.width, spec.heads, causal=True),
            Mlp(spec.width, 4 * spec.width, approximate="tanh"),
            *(norm, dropout, rate),
        )
        for rate in depths_of(depth, spec.depth)
    ]
    return Decoder(spec, blocks, norm(spec.width), tied=True, positions=True, dropout=dropout)


def llama(spec: NetworkSpec, *, dropout: float, depth: float) -> nn.Module:
    """Build a network with LLaMA's layout (Touvron et al. 2023): RMSNorm, SwiGLU, rotary positions, no biases."""
    norm, length = partial(nn.RMSNorm, eps=1e-6), spec.inputs.shape[0]
    blocks = [
        Block(
            spec.width,
            Attention(spec.width, spec.heads, bias=False, causal=True, rotary=length),
            GatedMlp(spec.width, gated_width(spec.width)),
            *(norm, dropout, rate),
        )
        for rate in depths_of(depth, spec.depth)
    ]
    return Decoder(spec, blocks, norm(spec.width), tied=False, positions=False, dropout=dropout)


def encoder(spec: NetworkSpec, *, dropout: float, depth: float) -> nn.Module:
    """Build an encoder with learned positions and GELU, normalized before each branch."""
    norm = partial(nn.LayerNorm, eps=1e-5)
    blocks = [
        Block(spec.width, Attention(spec.width, spec.heads), Mlp(spec.width, 4 * spec.width), norm, dropout, rate)
        for rate in depths_of(depth, spec.depth)
    ]
    return Encoder(spec, blocks, norm(spec.width), dropout=dropout)


def gated_width(width: int) -> int:
    """Return the hidden width of SwiGLU: 8/3 of the width, up to a multiple of 256 (of the width, if that is less)."""
    multiple = min(256, width)
    return -(-(8 * width // 3) // multiple) * multiple
