"""The inputs of a network: images, vectors, tokens or series, and the shape of one example. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IMAGES, VECTORS, TOKENS, SERIES = "images", "vectors", "tokens", "series"
KINDS = {
    IMAGES: "(channels, height, width)",
    VECTORS: "(features,)",
    TOKENS: "(sequence_length,)",
    SERIES: "(channels, time)",
}
"""The kinds of inputs, and the shape of one example of each. Tokens are int64, all others float32."""


@dataclass(frozen=True)
class Inputs:
    """The inputs that a dataset gives to a network, and whether the network answers for each token."""

    shape: tuple[int, ...]
    """The shape of one example; see `KINDS`."""
    kind: str = IMAGES
    vocabulary: int = 0
    """The number of different tokens, the padding token included; 0 for other inputs."""
    padding: int | None = None
    """The token that fills the ends of shorter sequences and counts for nothing; None if there is none."""
    per_token: bool = False
    """Whether the outputs are float (B, T, outputs), for each token, and not (B, outputs)."""

    def __str__(self) -> str:
        return " x ".join(map(str, self.shape))

    def blank(self, examples: int, device: torch.device | str | None = None) -> torch.Tensor:
        """Return examples without content: ones, or tokens 0; (examples, *shape)."""
        import torch

        kind = torch.int64 if self.kind == TOKENS else torch.float32
        fill = torch.zeros if self.kind == TOKENS else torch.ones
        return fill(examples, *self.shape, dtype=kind, device=device)
