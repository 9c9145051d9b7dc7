"""Recurrent networks for tokens and series."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foundations.inputs import TOKENS
from models.dropout import Dropout
from models.family import NetworkSpec
from models.prunable_default import PrunableDefault


class Recurrent(nn.Module):
    """An embedding, recurrent layers and a linear one.

    Input tokens (B, T) int64 or series (B, C, T) float; output (B, T, outputs) float for each token, or (B, outputs)
    float from the last position whose token is not padding.
    """

    def __init__(self, spec: NetworkSpec, layer: type[nn.LSTM | nn.GRU], *, dropout: float) -> None:
        super().__init__()
        self.takes_tokens, self.per_token = spec.inputs.kind == TOKENS, spec.inputs.per_token
        self.padding = spec.inputs.padding
        if self.takes_tokens:
            self.embedding = nn.Embedding(spec.inputs.vocabulary, spec.width)
        sizes = (spec.width if self.takes_tokens else spec.channels, *[spec.width] * (spec.depth - 1))
        # A layer of torch for each: dropout inside of a deeper one reads the global generator and could not resume.
        self.layers = nn.ModuleList(layer(size, spec.width, batch_first=True) for size in sizes)
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in sizes[1:] if dropout)
        self.fc = nn.Linear(spec.width, spec.outputs)
        self.prunable_default = PrunableDefault(also=(layer.__name__,), without=("fc",) if self.per_token else ())

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        hidden = self.embedding(x) if self.takes_tokens else x.transpose(1, 2)
        for index, layer in enumerate(self.layers):
            if index and self.dropouts:
                hidden = self.dropouts[index - 1](hidden)
            hidden, _ = layer(hidden)
        return self.fc(hidden if self.per_token else self._last(hidden, x))  # type: ignore[no-any-return]

    def _last(self, hidden: Tensor, x: Tensor) -> Tensor:
        """Return the outputs (B, W) at the last position of each example that is not padding."""
        if not self.takes_tokens or self.padding is None:
            return hidden[:, -1]
        positions = torch.arange(x.shape[1], device=x.device)
        last = (positions * (x != self.padding)).amax(1)
        return hidden.gather(1, last.view(-1, 1, 1).expand(-1, 1, hidden.shape[2])).squeeze(1)
