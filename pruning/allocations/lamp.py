"""LAMP (Lee et al. 2021): scores relative to what is left of their layer rank the weights of all layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundations.errors import UsageError
from pruning.allocations.allocation import Allocation

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from pruning.masks.mask import Mask
    from pruning.method import Method
    from pruning.scoring.masked_network import Scores


def lamp(scores: Scores, mask: Mask, method: Method) -> Scores:
    """Return s_i² / Σ_j s_j² over the weights j of the same tensor that are pruned after i (itself included), float64.

    Within a tensor the order stays that of the scores s, among equal ones that of the weights. With magnitude, s² = w²
    is the published score. The sums run from the largest score on. The weights that `mask` prunes score 0.

    Raises: UsageError for scores that are negative or infinite: they have no share in a layer.
    """
    import numpy as np
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
        order, shares = _shares((values if values.dtype == torch.float64 else values.float()).numpy())
        ranked = np.zeros(len(score))
        ranked[order if places is None else places.numpy()[order]] = shares
        found[name] = torch.from_numpy(ranked).view(keeps.shape)
    return found


def _shares(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the stable order of numbers that are at least 0, the last one first, and their shares: (n,), float64.

    Up to float32, their bits and their places are sorted as one integer, which takes a quarter of the time.
    """
    import numpy as np

    if values.dtype == np.float64:
        order = values.argsort(kind="stable")[::-1]
        squares = values[order]
    else:
        bits = (values + np.float32(0)).view(np.int32)  # + 0: -0.0 is 0.0
        keys = bits.astype(np.int64) << 32
        keys |= np.arange(len(values))
        keys = np.negative(np.sort(np.negative(keys, out=keys)))
        order = keys & 0xFFFFFFFF
        squares = (keys >> 32).astype(np.int32).view(np.float32).astype(np.float64)
    squares /= max(squares.max(initial=0), np.finfo(np.float64).tiny)
    squares *= squares
    with np.errstate(invalid="ignore"):
        squares /= squares.cumsum()
    squares[np.isnan(squares)] = 0.0
    return order, squares


LAMP = Allocation(
    spelling="lamp",
    known_as=("layer_adaptive",),
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
