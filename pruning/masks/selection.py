"""From scores to masks: prunes an exact number of weights from one end of the scores, ties in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from foundations.errors import UsageError
from pruning.masks.mask import Mask, true_indices
from pruning.method import Direction
from pruning.rounding import Ties
from pruning.structure.groups import Groups

_SAMPLE = 1 << 16
_FEW = 1 << 20


def select(
    scores: Mapping[str, torch.Tensor],
    mask: Mask,
    keep: int,
    prune_direction: Direction = "lowest",
    ties: Ties = "in_order",
) -> Mask:
    """Return the mask of exactly `keep` of the weights that `mask` keeps; those with the lowest scores are pruned.

    prune_direction: 'highest' prunes the weights with the highest scores.

    scores: by name, of the mask's shapes, of any real dtype; compared in float64 if one is, else in float32.

    Weights that `mask` prunes stay pruned, whatever their score. Among equal scores the first ones are pruned, in the
    order of the tensors' names and then of the flat index, in either direction: the weights that a stable sort would
    put first.

    ties: 'pruned' prunes all weights with the score of the last pruned one, so that fewer may be left; 'kept' keeps
    all with the score of the last kept one, so that more may be left.

    Raises: UsageError if `keep` is more than `mask` keeps, if scores and mask do not belong together, or if the score
    of a kept weight is NaN; it names the tensor.
    """
    kept = mask.kept
    if not 0 <= keep <= kept:
        raise UsageError(f"{keep} weights cannot be kept of {kept}.")
    index = None if kept == mask.total else mask.kept_indices
    candidates = _candidates(scores, mask, index)
    if keep == kept:
        return mask
    together = [torch.cat(candidates)] if kept <= _FEW else candidates  # each operation on few scores costs the same
    rank = kept - keep if prune_direction == "lowest" else keep + 1  # of the last one that goes, from the lowest
    if ties == "kept" and keep:
        rank += 1 if prune_direction == "lowest" else -1  # of the last one that stays
    threshold = kth_smallest(together, rank)
    stays = [values > threshold if prune_direction == "lowest" else values < threshold for values in together]
    if ties != "pruned":
        _keep_equal(together, stays, threshold, keep if ties == "in_order" else None)
    if kept <= _FEW:
        stays = list(torch.split(stays[0], [len(values) for values in candidates]))
    chosen = dict(zip(mask, stays, strict=True))
    if index is None:
        return mask.of_same_shapes({name: part.view(mask[name].shape) for name, part in chosen.items()})
    left = {name: index[name].index_select(0, true_indices(part)) for name, part in chosen.items()}
    return mask.of_same_shapes({name: _true_at(places, mask[name].shape) for name, places in left.items()}, left)


def select_in_groups(
    scores: Mapping[str, torch.Tensor],
    mask: Mask,
    groups: Mapping[str, Groups],
    keep: int,
    prune_direction: Direction = "lowest",
) -> Mask:
    """Return the mask of `keep` of the weights of each group, of those that `mask` keeps; fewer where it has fewer.

    groups: of some tensors, by name; the others stay as they are in `mask`. Scores, equal ones and errors are as in
    `select`.
    """
    index = None if mask.kept == mask.total else mask.kept_indices
    found = {}
    for name, values in zip(mask, _candidates(scores, mask, index), strict=True):
        if name in groups:
            ranks = values if prune_direction == "lowest" else -values
            ranks = ranks.clamp(min=torch.finfo(ranks.dtype).min)  # above those of pruned weights
            whole = torch.full(mask[name].shape, -torch.inf, dtype=ranks.dtype).masked_scatter_(mask[name].cpu(), ranks)
            found[name] = groups[name].largest(whole, keep).logical_and_(mask[name].cpu())
    return mask.with_tensors({**mask, **found})


def _keep_equal(
    together: Sequence[torch.Tensor], stays: Sequence[torch.Tensor], threshold: float, keep: int | None
) -> None:
    """Keep weights at the threshold, in place: the last of them until `keep` are kept, or all."""
    missing = None if keep is None else keep - sum(int(torch.count_nonzero(part)) for part in stays)
    for values, part in zip(reversed(together), reversed(stays), strict=True):
        if missing == 0:
            break
        equal = true_indices(values == threshold)
        equal = equal if missing is None else equal[-missing:]
        part[equal] = True
        missing = None if missing is None else missing - len(equal)


def _true_at(indices: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return torch.zeros(shape.numel(), dtype=torch.bool).index_fill_(0, indices, True).view(shape)


def inverted(score: torch.Tensor) -> torch.Tensor:
    """Return 1 / score in float64, of any real dtype and shape; 1 / 0 is +∞, whatever the sign of the zero."""
    score = score.to("cpu", torch.float64)
    return score.reciprocal().masked_fill(score == 0, torch.inf)


def kth_smallest(parts: Sequence[torch.Tensor], k: int) -> float:
    """Return the k-th smallest (from 1) of all scores, exactly. None may be NaN; k is at most their number.

    An evenly spaced sample brackets it, so that only the scores within the bracket are sorted out; if the sample
    was misleading, all are.
    """
    count = sum(len(values) for values in parts)
    low, high = -np.inf, np.inf
    if count > 4 * _SAMPLE:
        stride = count // _SAMPLE
        sample = np.sort(np.concatenate([values[::stride].numpy() for values in parts]))
        centre, margin = k / count * len(sample), 4 * len(sample) ** 0.5
        low = float(sample[int(centre - margin)]) if centre > margin else low
        high = float(sample[int(centre + margin)]) if centre + margin < len(sample) else high
    above_low = [values >= low for values in parts]
    below = count - sum(int(torch.count_nonzero(above)) for above in above_low)
    bracket = [(values <= high).logical_and_(above) for values, above in zip(parts, above_low, strict=True)]
    pairs = zip(parts, bracket, strict=True)
    inside = np.concatenate([values.numpy()[np.flatnonzero(part.numpy())] for values, part in pairs])
    if not below < k <= below + len(inside):
        below, inside = 0, np.concatenate([values.numpy() for values in parts])
    inside.partition(k - below - 1)
    return float(inside[k - below - 1])


def _candidates(
    scores: Mapping[str, torch.Tensor], mask: Mask, index: Mapping[str, torch.Tensor] | None
) -> list[torch.Tensor]:
    """Return the scores of the kept weights of each tensor, on the CPU.

    index: the flat indices of these weights, or None for all. In late iterations few are left: the rest is not read.
    """
    if set(scores) != set(mask):
        name = min(set(scores) ^ set(mask))
        raise UsageError(f"scores and mask are of different networks: only one has a tensor '{name}'.")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in scores.values()) else torch.float32
    candidates = []
    for name, keeps in mask.items():
        score = scores[name].detach()
        if score.shape != keeps.shape:
            raise UsageError(f"the scores of '{name}' are of shape {tuple(score.shape)}, not {tuple(keeps.shape)}.")
        values = score.to("cpu").reshape(-1)
        values = (values if index is None else values.index_select(0, index[name])).to(dtype)
        if values.numel() and bool(values.amax().isnan()):
            raise UsageError(f"the scores of '{name}' are not numbers (NaN): the network overflows or was diverging.")
        candidates.append(values)
    return candidates
