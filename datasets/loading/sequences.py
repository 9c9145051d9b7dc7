"""Sequences of one length at many places of a stream: found together, and read some at a time."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor

from datasets.loading.stream import Stream


class Sequences:
    """Sequences of a stream, in any order.

    Most are stored in one piece where documents are long, and are read as rows. The others are read in pieces: a piece
    is what a sequence has of one part of the stream, with the separator before it.
    """

    def __init__(self, stream: Stream, starts: Tensor, length: int) -> None:
        """Find the sequences. starts: int64 (N,), their first places in the stream; length: tokens of each."""
        self.starts, self._stream, self._length = starts, stream, length
        self._passing: list[int] = (starts + length > len(stream)).nonzero().flatten().tolist()
        self._is_empty = not len(stream.tokens) or not stream.documents
        if self._is_empty:
            return
        last_part = stream.documents - 1
        first = torch.searchsorted(stream.ends, starts, right=True).clamp(max=last_part)
        last = torch.searchsorted(stream.ends, starts + (length - 1), right=True).clamp(max=last_part)
        separated, begin, stored = (
            each.index_select(0, first) for each in (stream.separated, stream.begins, stream.starts)
        )
        own = starts - begin - separated
        in_one = (first == last) & (own >= 0) & (starts + length <= len(stream))
        self._firsts = (stored + own).where(in_one, own.new_zeros(()))
        self._rows = stream.tokens.unfold(0, length, 1) if length <= len(stream.tokens) else None
        self._in_pieces = (~in_one).nonzero().flatten()
        self._in_pieces_of: list[int] = self._in_pieces.tolist()
        self._find_pieces(first.index_select(0, self._in_pieces), last.index_select(0, self._in_pieces))

    def _find_pieces(self, first: Tensor, last: Tensor) -> None:
        """Set, of each piece of the sequences in pieces: its place among their tokens, its shift to the stored ones."""
        stream, counts = self._stream, last - first + 1
        ends = counts.cumsum(0)
        self._pieces_before: list[int] = [0, *ends.tolist()]
        row = torch.repeat_interleave(counts, output_size=self._pieces_before[-1])
        part = torch.arange(len(row), device=row.device) + (first - ends + counts).index_select(0, row)
        separated, begin, stored = (
            each.index_select(0, part) for each in (stream.separated, stream.begins, stream.starts)
        )
        after = self.starts.index_select(0, self._in_pieces).index_select(0, row) - begin
        place = row * self._length
        self._places = place + (-after).clamp(min=0)
        self._shifts = stored - separated + after - place
        self._separators = ((separated > 0) & (after <= 0)).nonzero().flatten()
        self._separators_of: list[int] = self._separators.tolist()

    def read(self, some: slice) -> Tensor:
        """Return the tokens of some of the sequences, int64 (n, length). Past the end of the stream: its separator."""
        first, last = (bisect_left(self._in_pieces_of, end) for end in (some.start, some.stop))
        if self._is_empty:
            tokens = self.starts.new_full((len(self.starts[some]), self._length), self._stream.separator)
        elif last - first == some.stop - some.start:
            tokens = self._joined(first, last)
        else:
            assert self._rows is not None, "a sequence in one piece is no longer than what is stored"
            tokens = _taken(self._rows, self._firsts[some]).long()
            if last > first:
                tokens[self._in_pieces[first:last] - some.start] = self._joined(first, last)
        past = self.past_the_end(some)
        return tokens if past is None else tokens.masked_fill_(past, self._stream.separator)

    def past_the_end(self, some: slice) -> Tensor | None:
        """Return a mask of the tokens past the end of the stream, bool (n, length), or None if none is."""
        if bisect_left(self._passing, some.start) == bisect_left(self._passing, some.stop):
            return None
        places = self.starts[some, None] + torch.arange(self._length, device=self.starts.device)
        return places >= len(self._stream)

    def _joined(self, first: int, last: int) -> Tensor:
        """Return the tokens of some of the sequences in pieces, int64 (last - first, length)."""
        some, size = slice(self._pieces_before[first], self._pieces_before[last]), (last - first) * self._length
        before = first * self._length
        places = self._places[some]
        sizes = torch.diff(places, append=places.new_full((1,), last * self._length))
        stored = torch.repeat_interleave(self._shifts[some], sizes, output_size=size)
        stored += torch.arange(before, before + size, device=stored.device)
        tokens = _taken(self._stream.tokens, stored.clamp_(0, len(self._stream.tokens) - 1)).long()
        low, high = (bisect_left(self._separators_of, piece) for piece in (some.start, some.stop))
        separators = self._places.index_select(0, self._separators[low:high]) - before
        tokens.index_fill_(0, separators, self._stream.separator)
        return tokens.view(-1, self._length)


def _taken(tokens: Tensor, numbers: Tensor) -> Tensor:
    """Return rows by their numbers: on the CPU several times faster than indexing, which CUDA has for all types."""
    return tokens[numbers] if tokens.is_cuda else tokens.index_select(0, numbers)
