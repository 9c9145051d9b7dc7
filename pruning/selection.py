"""From scores to masks: an exact number of weights goes, from one end of the scores, ties by a fixed order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from foundations.errors import UsageError
from pruning.mask import Mask
from pruning.registry import Direction

_SAMPLE = 1 << 16


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
    ranked = _ranked(scores, mask, remove)
    if keep == kept:
        return mask
    last_to_go = mask.total - keep
    threshold = kth_smallest(ranked, last_to_go)
    stays = ranked > threshold
    missing = keep - int(torch.count_nonzero(stays))
    if missing:
        candidates = ((ranked == threshold) & _flat(mask)).nonzero().flatten()
        stays[candidates[len(candidates) - missing :]] = True
    sizes = [tensor.numel() for tensor in mask.values()]
    parts = dict(zip(mask, torch.split(stays, sizes), strict=True))
    return mask._like({name: part.view(mask[name].shape) for name, part in parts.items()})


def _ranked(scores: Mapping[str, torch.Tensor], mask: Mask, remove: Direction) -> torch.Tensor:
    """Return the scores in one tensor, so that the smallest go first, and those that are gone already before all."""
    if set(scores) != set(mask):
        name = min(set(scores) ^ set(mask))
        raise UsageError(f"scores and mask are of different networks: only one has a tensor '{name}'.")
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in scores.values()) else torch.float32
    gone = torch.tensor(-torch.inf, dtype=dtype)
    ranked = torch.empty(mask.total, dtype=dtype)
    sizes = [tensor.numel() for tensor in mask.values()]
    for part, (name, keeps) in zip(torch.split(ranked, sizes), mask.items(), strict=True):
        score = scores[name].detach()
        if score.shape != keeps.shape:
            raise UsageError(f"the scores of '{name}' are of shape {tuple(score.shape)}, not {tuple(keeps.shape)}.")
        score = score.to("cpu", dtype).reshape(-1)
        torch.where(keeps.view(-1), score.neg() if remove == "highest" else score, gone, out=part)
        if part.numel() and bool(part.amax().isnan()):
            raise UsageError(f"the scores of '{name}' are not numbers (NaN): the network overflows or was diverging.")
    return ranked


def _flat(mask: Mask) -> torch.Tensor:
    return torch.cat([tensor.view(-1) for tensor in mask.values()])


def kth_smallest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th smallest (from 1) of a flat tensor without NaN, exactly, as a tensor without dimensions.

    An evenly spaced sample brackets it, so that only the values within the bracket are partitioned; where the sample
    misled, all are.
    """
    if len(values) > 4 * _SAMPLE:
        sample = values[:: len(values) // _SAMPLE].contiguous().numpy()
        sample.sort()
        centre, margin = k / len(values) * len(sample), 4 * len(sample) ** 0.5
        low = float(sample[max(0, int(centre - margin))]) if centre > margin else -np.inf
        high = float(sample[int(centre + margin)]) if centre + margin < len(sample) else np.inf
        below = int(torch.count_nonzero(values < low))
        inside = values[(values >= low) & (values <= high)]
        if below < k <= below + len(inside):
            values, k = inside, k - below
    return torch.from_numpy(np.partition(values.numpy(), k - 1))[k - 1]
