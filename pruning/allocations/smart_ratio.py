"""The smart ratio (Su et al. 2020, section 4): density falls from the input to the output."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from pruning.allocations.allocation import Allocation, Counts, Shape, apportion

LAST_DENSITY = Fraction(3, 10)


def smart_ratio(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: int) -> Counts:
    """Return counts with densities proportional to k² + k, k = L - l + 1 for the l-th of L layers in running order.

    The last layer keeps 0.3 of its weights, whatever the level.
    """
    *others, last = shapes
    depths = {name: len(shapes) - place for place, name in enumerate(shapes)}
    proportions = {name: math.prod(shapes[name]) * (depths[name] ** 2 + depths[name]) for name in others}
    of_last = min(room[last], keep, round(LAST_DENSITY * math.prod(shapes[last])))
    of_last = max(of_last, keep - sum(room[name] for name in others))
    return {last: of_last, **apportion(proportions, {name: room[name] for name in others}, keep - of_last)}


SMART_RATIO = Allocation(
    spelling="smart_ratio",
    summary="denser at the input than towards the output, and 0.3 in the last layer",
    paper="Su et al. 2020, Sanity-Checking Pruning Methods: Random Tickets can Win the Jackpot",
    kept_per_layer=smart_ratio,
    needs_order=True,
)
