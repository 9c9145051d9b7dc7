"""The inputs of a network: images, vectors, tokens or series, and the shape of one example. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
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

    @classmethod
    def of(cls, given: Inputs | Sequence[int]) -> Inputs:
        """Return the inputs themselves, or those of float32 examples of a shape."""
        return given if isinstance(given, Inputs) else cls(tuple(given))

    def __str__(self) -> str:
        return " x ".join(map(str, self.shape))

    def blank(
        self, examples: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Return examples without content, (examples, *shape): ones, or int64 the first token that is not padding.

        dtype: of inputs other than tokens; by default float32.
        """
        import torch

        shape = (examples, *self.shape)
        if self.kind == TOKENS:
            return torch.full(shape, int(self.padding == 0), dtype=torch.int64, device=device)
        return torch.ones(shape, dtype=dtype or torch.float32, device=device)

    def drawn(self, examples: int, device: torch.device | str | None = None) -> torch.Tensor:
        """Return random examples, (examples, *shape): float32 from N(0, 1), or int64 tokens."""
        import torch

        shape = (examples, *self.shape)
        if self.kind == TOKENS:
            return torch.randint(self.vocabulary, shape, device=device)
        return torch.randn(shape, device=device)
