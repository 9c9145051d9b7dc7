"""Documents joined to one stream of tokens, which is never held as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stream:
    """Parts of stored tokens in an order, each with a separator before it or without."""

    tokens: Tensor
    """All stored tokens, of any integer type, (total,)."""
    starts: Tensor
    """The place in `tokens` where each part begins, int64 (D,)."""
    sizes: Tensor
    """Tokens of each part, with its separator, int64 (D,)."""
    separated: Tensor
    """Whether a separator comes before each part, int64 (D,), 0 or 1."""
    separator: int
    """The separator; also the token past the end of the stream."""
    ends: Tensor
    """The place in the stream where each part ends, int64 (D,)."""
    length: int

    @classmethod
    def of(cls, tokens: Tensor, documents: Tensor, separator: int | None) -> Stream:
        """Return all documents in their stored order. documents: int64 (D + 1,), where they begin and end."""
        separated = torch.full_like(documents[:-1], 0 if separator is None else 1)
        return cls._joined(tokens, documents[:-1], documents.diff() + separated, separated, separator or 0)

    @classmethod
    def _joined(cls, tokens: Tensor, starts: Tensor, sizes: Tensor, separated: Tensor, separator: int) -> Stream:
        ends = sizes.cumsum(0)
        return cls(tokens, starts, sizes, separated, separator, ends, int(ends[-1]) if len(ends) else 0)

    def __len__(self) -> int:
        return self.length

    @property
    def documents(self) -> int:
        """Number of parts."""
        return len(self.starts)

    @cached_property
    def begins(self) -> Tensor:
        """The place in the stream where each part begins, int64 (D,)."""
        return self.ends - self.sizes

    def in_order(self, order: Tensor) -> Stream:
        """Return the parts in another order. order: int64 (D,)."""
        if self.documents <= 1:
            return self
        order = order.to(self.starts.device)
        starts, sizes, separated = (each.index_select(0, order) for each in (self.starts, self.sizes, self.separated))
        return self._joined(self.tokens, starts, sizes, separated, self.separator)

    def part(self, first: int, last: int) -> Stream:
        """Return the stream from one place to another; parts at its ends are cut."""
        cut_before = (first - self.begins).clamp(min=0).minimum(self.sizes)
        cut_after = (self.ends - last).clamp(min=0)
        sizes = (self.sizes - cut_before - cut_after).clamp(min=0)
        separated = self.separated * (cut_before == 0)
        starts = self.starts + (cut_before - self.separated).clamp(min=0)
        kept = sizes > 0
        return self._joined(self.tokens, starts[kept], sizes[kept], separated[kept], self.separator)
