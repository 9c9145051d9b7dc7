"""From scores to masks: an exact number of weights goes, from one end of the scores, ties by a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foundations.errors import UsageError
from pruning.mask import Mask
from pruning.registry import Direction

_SAMPLE = 1 << 16
Ranked = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each tensor in sorted order, flat and on the CPU: its scores, and which of them are candidates."""


def select(scores: Mapping[str, torch.Tensor], mask: Mask, keep: int, remove: Direction = "lowest") -> Mask:
    """Return the mask of exactly `keep` of the weights that `mask` keeps; those with the `remove` scores go.

    Weights that `mask` prunes stay pruned, whatever their score. Among equal scores the first ones go, in the order of
    the tensors' names and then of the flat index, whichever end is removed: the weights that a stable sort would put
    first. scores: by name, of the mask's shapes, of any real dtype; compared in float64 if one is, else in float32.

    Raises: UsageError where `keep` is more than there are, where scores and mask do not belong together, or for a score
    of a kept weight that is NaN; it names the tensor.
    """
    kept = mask.kept
    if not 0 <= keep <= kept:
        raise UsageError(f"{keep} weights cannot be kept of {kept}.")
    ranked = _ranked(scores, mask)
    if keep == kept:
        return mask
    threshold = kth_smallest(ranked, kept, kept - keep if remove == "lowest" else keep + 1)
    stays = [
        (values > threshold if remove == "lowest" else values < threshold).logical_and_(keeps)
        for values, keeps in ranked
    ]
    missing = keep - sum(int(torch.count_nonzero(part)) for part in stays)
    for (values, keeps), part in zip(reversed(ranked), reversed(stays), strict=True):
        if missing == 0:
            break
        ties = ((values == threshold) & keeps).nonzero().flatten()[-missing:]
        part[ties] = True
        missing -= len(ties)
    return mask._like({name: part.view(mask[name].shape) for name, part in zip(mask, stays, strict=True)})


def kth_smallest(ranked: Ranked, candidates: int, k: int) -> float:
    """Return the k-th smallest (from 1) score of all candidates, exactly. None may be NaN.

    candidates: how many there are, at least k.

    An evenly spaced sample brackets it, so that only the scores within the bracket are sorted out; where the sample
    misled, all are.
    """
    low, high = -np.inf, np.inf
    if candidates > 4 * _SAMPLE:
        stride = candidates // _SAMPLE
        sample = np.sort(_candidates((values[::stride], keeps[::stride]) for values, keeps in ranked))
        centre, margin = k / candidates * len(sample), 4 * len(sample) ** 0.5
        low = float(sample[int(centre - margin)]) if centre > margin else low
        high = float(sample[int(centre + margin)]) if centre + margin < len(sample) else high
    above_low = [keeps if low == -np.inf else (values >= low).logical_and_(keeps) for values, keeps in ranked]
    below = candidates - sum(int(torch.count_nonzero(keeps)) for keeps in above_low)
    inside = _candidates(
        (values, keeps if high == np.inf else (values <= high).logical_and_(keeps))
        for (values, _), keeps in zip(ranked, above_low, strict=True)
    )
    if not below < k <= below + len(inside):
        below, inside = 0, _candidates(iter(ranked))
    inside.partition(k - below - 1)
    return float(inside[k - below - 1])


def _candidates(parts: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> npt.NDArray[Any]:
    return np.concatenate([values.numpy()[np.flatnonzero(keeps.numpy())] for values, keeps in parts])


def _ranked(scores: Mapping[str, torch.Tensor], mask: Mask) -> Ranked:
    if set(scores) != set(mask):
        name = min(set(scores) ^ set(mask))
        raise UsageError(f"scores and mask are of different networks: only one has a tensor '{name}'.")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in scores.values()) else torch.float32
    ranked = []
    for name, keeps in mask.items():
        score = scores[name].detach()
        if score.shape != keeps.shape:
            raise UsageError(f"the scores of '{name}' are of shape {tuple(score.shape)}, not {tuple(keeps.shape)}.")
        values, keeps = score.to("cpu", dtype).reshape(-1), keeps.view(-1)
        if values.numel() and bool(values.amax().isnan()) and bool(values[keeps].isnan().any()):
            raise UsageError(f"the scores of '{name}' are not numbers (NaN): the network overflows or was diverging.")
        ranked.append((values, keeps))
    return ranked
