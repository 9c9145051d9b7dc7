"""The Erdős-Rényi-kernel allocation: Erdős-Rényi, with the sides of the kernel counted like channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruning.allocations.allocation import Allocation, Counts, Shape, proportional, within
from pruning.allocations.effective_sparsity import EFFECTIVE_SPARSITY, counts_at

if TYPE_CHECKING:
    from pruning.method import Method


def _shares(shapes: Mapping[str, Shape], keep: float) -> dict[str, float]:
    """Return `keep` divided in proportion to the sum of each shape, whatever the layers have room for."""
    total = sum(sum(shape) for shape in shapes.values())
    return {name: keep * sum(shape) / total for name, shape in shapes.items()}


def effective_sparsity(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, method: Method) -> Counts:
    """Return effective-sparsity's counts: the surplus of a full layer goes to the layer before it, from the last on."""
    shares, densities, surplus = _shares(shapes, keep), {}, 0.0
    for name in reversed(shares):
        size, share = math.prod(shapes[name]), shares[name] + surplus
        surplus = max(0.0, share - size)
        densities[name] = min(1.0, share / size)
    return counts_at(densities, shapes, room, method)


def layer_adaptive(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, _: Method) -> Counts:
    """Return LAMP's counts: rounded half to even, and then the layer with the largest excess is made dense, in turn."""
    sums, dense = {name: sum(shape) for name, shape in shapes.items()}, set[str]()
    while True:
        rest = [name for name in sums if name not in dense]
        left, total = keep - sum(room[name] for name in dense), sum(sums[name] for name in rest)
        counts = {name: round(left * sums[name] / total) for name in rest}
        over = [name for name in rest if counts[name] > room[name]]
        if not over:
            return within({name: room[name] if name in dense else counts[name] for name in sums}, room)
        dense.add(max(over, key=lambda name: counts[name] / max(1, room[name])))


def turboprune(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, _: Method) -> Counts:
    """Return the expected counts of TurboPrune's ER-ERK: nothing of the surplus of a full layer is given away."""
    return within({name: round(share) for name, share in _shares(shapes, keep).items()}, room)


ERK = Allocation(
    spelling="erk",
    known_as=("erdos_renyi_kernel", "er_kernel"),
    summary="density proportional to (n_in + n_out + kernel sides) / (number of weights): Erdős-Rényi-kernel",
    paper="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners (appendix E)",
    differences=(
        "Counts add up. --rounding=effective_sparsity, lamp and turboprune round as these code bases do: the first "
        "gives the surplus of a full layer to the layer before it, the last gives it to none."
    ),
    kept_per_layer=proportional(sum),
    published={EFFECTIVE_SPARSITY: effective_sparsity, "lamp": layer_adaptive, "turboprune": turboprune},
)
