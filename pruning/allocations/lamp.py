"""LAMP (Lee et al. 2021): scores relative to what is left of their layer rank the weights of all layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundations.errors import UsageError
from pruning.allocations.allocation import Allocation

if TYPE_CHECKING:
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
        score = scores[name].detach().to("cpu", torch.float64).reshape(-1)
        places = keeps.reshape(-1).nonzero().reshape(-1)
        values = score[places]
        if values.numel() and not bool((values >= 0).all() and values.amax().isfinite()):
            reason = (
                f"lamp takes shares of scores, and those of {method.spelling} are negative or infinite for '{name}'."
            )
            raise UsageError(reason, "allocation")
        values, order = values.sort(stable=True)
        squares = (values / values[-1:].clamp_min(torch.finfo(torch.float64).tiny)).square()
        shares = (squares / squares.flip(0).cumsum(0).flip(0)).nan_to_num(nan=0.0)
        found[name] = torch.zeros_like(score).index_copy_(0, places[order], shares).view(keeps.shape)
    return found


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
