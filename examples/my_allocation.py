"""`square_root`, with the counts of a code base, and `by_largest`: allocations of your own, as a plug-in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from open_prune import Allocation, Method, apportion

if TYPE_CHECKING:
    from open_prune import Mask, Scores

Shapes = Mapping[str, tuple[int, ...]]


def square_root(shapes: Shapes, room: Mapping[str, int], keep: int) -> dict[str, int]:
    """Return counts proportional to the square roots of the layers' numbers of weights, which add up to `keep`."""
    return apportion({name: math.isqrt(math.prod(shape)) for name, shape in shapes.items()}, room, keep)


def rounded_down(shapes: Shapes, room: Mapping[str, int], keep: float, _: Method) -> dict[str, int]:
    """Return such counts as a code base has them that rounds each layer down; they add up to less."""
    roots = {name: math.sqrt(math.prod(shape)) for name, shape in shapes.items()}
    return {name: min(room[name], int(keep * root / sum(roots.values()))) for name, root in roots.items()}


def by_largest(scores: Scores, mask: Mask, _: Method) -> Scores:
    """Return the scores relative to the largest of each layer; all weights are ranked together by them."""
    return {name: score / score[mask[name]].max() if mask[name].any() else score for name, score in scores.items()}


SQUARE_ROOT = Allocation(
    spelling="square_root",
    summary="as many weights as the square root of a layer's size, in proportion",
    kept_per_layer=square_root,
    published={"rounded_down": rounded_down},
)
BY_LARGEST = Allocation(
    spelling="by_largest",
    summary="all weights ranked together by their scores relative to the largest of their layer",
    normalize=by_largest,
)
