"""How a number of kept weights is spread over the layers, before any score is looked at: pure functions.

Every allocation but the global one is a proportion: layer l keeps min(n_l, c * p_l) of its n_l weights, with the c for
which these add up. All p_l are whole numbers, so the counts are exact; what rounding leaves goes to the largest
remainders, and among equal ones to the alphabetically first name.

uniform      p = n: the same density in every layer. `layerwise` is another word for it.
er           p = (n_in + n_out) * kernel size: density proportional to (n_in + n_out) / (n_in * n_out), an Erdős-Rényi
             graph between channels (Mocanu et al. 2018).
erk          p = n_in + n_out + the kernel's sides: density proportional to this over n (Evci et al. 2020, appendix E).
balanced     p = 1: the same number of weights in every layer, as far as it has them.
smart_ratio  p = n * (k² + k), k = L - l + 1 for the l-th of L layers in the order in which they run: density falls from
             the input to the output; but the last layer keeps 0.3 of its weights (Su et al. 2020, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import torch

from foundations.errors import UsageError, did_you_mean
from pruning.hparams import ALLOCATIONS
from pruning.mask import Mask

SMART_RATIO_LAST_DENSITY = Fraction(3, 10)


def allocate(allocation: str, mask: Mask, keep: int, order: Sequence[str] | None = None) -> list[tuple[Mask, int]]:
    """Return groups of tensors within which weights are ranked together, and how many of each are kept.

    The groups are disjoint and cover `mask`; their numbers add up to `keep` and never exceed what `mask` keeps of them.
    order: the tensors' names in the order in which they run, for smart_ratio.

    Raises: UsageError for an unknown allocation, or for smart_ratio without an order.
    """
    if allocation == "global":
        return [(mask, keep)]
    counts = kept_per_layer(allocation, {name: tensor.shape for name, tensor in mask.items()}, keep, order, mask)
    return [(Mask({name: mask[name]}), counts[name]) for name in mask]


def kept_per_layer(
    allocation: str,
    shapes: Mapping[str, torch.Size],
    keep: int,
    order: Sequence[str] | None = None,
    limits: Mask | None = None,
) -> dict[str, int]:
    """Return how many of `keep` weights each layer keeps; the shapes are (n_out, n_in, kernel sides ...).

    limits: a mask of which nothing comes back.
    """
    room = limits.kept_per_layer() if limits is not None else {name: shape.numel() for name, shape in shapes.items()}
    if allocation == "smart_ratio":
        return _smart_ratio(shapes, room, keep, order)
    if allocation not in _PROPORTIONS:
        raise UsageError(
            f"'{allocation}' is not possible.{did_you_mean(allocation, ALLOCATIONS)} "
            f"Possible: {', '.join(ALLOCATIONS)}.",
            "allocation",
        )
    return fill({name: _PROPORTIONS[allocation](shape) for name, shape in shapes.items()}, room, keep)


def fill(proportions: Mapping[str, int], room: Mapping[str, int], keep: int) -> dict[str, int]:
    """Return whole numbers that add up to `keep`, as near as possible to min(room, c * proportion) with a common c."""
    exact: dict[str, Fraction] = {}
    left, open_names = Fraction(keep), sorted(proportions)
    while open_names:
        factor = left / sum(proportions[name] for name in open_names)
        full = [name for name in open_names if factor * proportions[name] >= room[name]]
        for name in full or open_names:
            exact[name] = Fraction(room[name]) if full else factor * proportions[name]
            left -= exact[name]
        open_names = [name for name in open_names if name not in exact]
    counts = {name: math.floor(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (counts[name] - exact[name], name))
    for name in by_remainder[: keep - sum(counts.values())]:
        counts[name] += 1
    return counts


def _smart_ratio(
    shapes: Mapping[str, torch.Size], room: Mapping[str, int], keep: int, order: Sequence[str] | None
) -> dict[str, int]:
    if order is None or sorted(order) != sorted(shapes):
        raise UsageError("smart_ratio needs the order of the layers: pass input_shape or examples.", "allocation")
    *others, last = order
    depths = {name: len(order) - place for place, name in enumerate(order)}
    proportions = {name: shapes[name].numel() * (depths[name] ** 2 + depths[name]) for name in others}
    of_last = min(room[last], keep, round(SMART_RATIO_LAST_DENSITY * shapes[last].numel()))
    of_last = max(of_last, keep - sum(room[name] for name in others))
    return {last: of_last, **fill(proportions, {name: room[name] for name in others}, keep - of_last)}


_PROPORTIONS: Mapping[str, Callable[[torch.Size], int]] = {
    "uniform": lambda shape: shape.numel(),
    "layerwise": lambda shape: shape.numel(),
    "er": lambda shape: (shape[0] + shape[1]) * shape[2:].numel(),
    "erk": lambda shape: sum(shape),
    "balanced": lambda _: 1,
}
