"""Groups of weights of a tensor, as the rows of a matrix, and the largest of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_COMPARED = 8
"""The largest groups whose ranks are counted by comparing each pair: faster than to sort many small rows."""


@dataclass(frozen=True)
class Groups:
    """Groups of consecutive weights of a tensor, once its axes are permuted.

    The permuted tensor is read in runs; a run whose length the size of a group does not divide is padded at its end.
    """

    order: tuple[int, ...]
    """The axes of the tensor in the order in which its weights follow one another."""
    run: int
    """The number of consecutive weights that no group crosses."""
    size: int
    """The number of weights of a group, padding included."""

    def split(self, tensor: Tensor, padding: float = 0.0) -> Tensor:
        """Return the groups of a tensor, (groups, size). Differentiable. padding: its value."""
        from torch.nn import functional as F

        runs = tensor.permute(self.order).reshape(-1, self.run)
        missing = -self.run % self.size
        return (F.pad(runs, (0, missing), value=padding) if missing else runs).reshape(-1, self.size)

    def join(self, groups: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the tensor of a shape that has these groups, (groups, size): the inverse of `split`."""
        runs = groups.reshape(-1, self.run + -self.run % self.size)[:, : self.run]
        permuted = runs.reshape([shape[axis] for axis in self.order])
        inverse = sorted(range(len(shape)), key=lambda axis: self.order[axis])
        return permuted.permute(inverse).contiguous()

    def largest(self, scores: Tensor, kept: int) -> Tensor:
        """Return the mask of the `kept` largest scores of each group: bool, of the scores' shape and device.

        A group at the end of a run may have fewer weights than `kept`: it keeps all. Of equal scores the first go, as
        in `pruning.masks.selection.select`; scores that are NaN stay.
        """
        finite = scores.detach().nan_to_num(nan=math.inf, neginf=-math.inf)
        found = largest(self.split(finite, padding=-math.inf), kept)
        return self.join(found, tuple(scores.shape))


def largest(rows: Tensor, kept: int) -> Tensor:
    """Return the mask of the `kept` largest values of each row of (rows, values); of equal ones the first go."""
    import torch

    size = rows.shape[1]
    if kept >= size:
        return torch.ones_like(rows, dtype=torch.bool)
    if size > _COMPARED:
        stays = rows.argsort(dim=1, stable=True)[:, size - kept :]
        return torch.zeros_like(rows, dtype=torch.bool).scatter_(1, stays, value=True)
    columns = rows.mT.contiguous()
    ranks = torch.zeros_like(columns, dtype=torch.int8)
    ranks += torch.arange(size - 1, -1, -1, dtype=torch.int8, device=rows.device).view(-1, 1)  # above all later ones
    for later in range(1, size):
        for earlier in range(later):
            is_above = (columns[later] >= columns[earlier]).view(torch.int8)  # a sum of int8 and bool is slower
            ranks[later] += is_above
            ranks[earlier] -= is_above
    return (ranks >= size - kept).mT.contiguous()
