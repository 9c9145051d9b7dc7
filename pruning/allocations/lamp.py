"""LAMP (Lee et al. 2021): scores relative to what is left of their layer rank the weights of all layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundations.errors import UsageError
from pruning.allocations.allocation import Allocation

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.masks.mask import Mask
    from pruning.method import Method
    from pruning.scoring.masked_network import Scores


def lamp(scores: Scores, mask: Mask, method: Method) -> Scores:
    """Return s_i² / Σ_j s_j² over the weights j of the same tensor that are pruned after i (itself included), float64.

    Within a tensor the order stays that of the scores s, among equal ones that of the weights. With magnitude, s² = w²
    is the published score. The sums run from the largest score on. The weights that `mask` prunes score 0.

    Raises: UsageError for scores that are negative or infinite: they have no share in a layer.
    """
    import torch

    found = {}
    for name, keeps in mask.items():
        score = scores[name].detach().to("cpu").reshape(-1)
        places = None if keeps.all() else keeps.reshape(-1).nonzero().reshape(-1)
        values = score if places is None else score[places]
        if len(values) and not (values.amin() >= 0 and values.amax().isfinite()):
            reason = (
                f"lamp takes shares of scores, and those of {method.spelling} are negative or infinite for '{name}'."
            )
            raise UsageError(reason, "allocation")
        order = _ascending(values)
        values = values[order].to(torch.float64)
        squares = (values / values[-1:].clamp_min(torch.finfo(torch.float64).tiny)).square_()
        shares = squares / squares.flip(0).cumsum_(0).flip(0)
        shares.nan_to_num_(nan=0.0)
        ranked = torch.zeros(len(score), dtype=torch.float64)
        found[name] = ranked.index_copy_(0, order if places is None else places[order], shares).view(keeps.shape)
    return found


def _ascending(values: Tensor) -> Tensor:
    """Return the stable order of numbers that are at least 0, int64 (n,).

    Up to float32, their bits and their places are sorted as one integer, which takes a quarter of the time.
    """
    import numpy as np
    import torch

    if values.dtype == torch.float64:
        return values.sort(stable=True).indices
    bits = (values.to(torch.float32) + 0.0).view(torch.int32).to(torch.int64)  # + 0.0: -0.0 is 0.0
    keys = np.sort(((bits << 32) | torch.arange(len(values))).numpy())
    return torch.from_numpy(keys & 0xFFFFFFFF)


LAMP = Allocation(
    spelling="lamp",
    summary="all weights ranked together by the share of their squared score in what is left of their layer",
    paper="Lee et al. 2021, Layer-adaptive Sparsity for the Magnitude-based Pruning",
    tested_against="jaeho-lee/layer-adaptive-sparsity",
    differences=(
        "Published with magnitude; here the scores of any method, unless they have signs. Sums are in float64 from the "
        "largest score on; the published float32 differences lose digits at the top (up to 1.5e-4), so counts of large "
        "layers can differ by a few. --rounding=lamp counts as published."
    ),
    normalize=lamp,
)
