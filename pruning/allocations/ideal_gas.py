"""Ideal gas quotas (Vysogorets & Kempe 2023): layers as volumes of gas under one force."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pruning.allocations.allocation import Allocation, Counts, Shape, rounded_to
from pruning.allocations.effective_sparsity import EFFECTIVE_SPARSITY, counts_at

if TYPE_CHECKING:
    from pruning.method import Method

_HALVINGS = 300
_LARGEST_FORCE = 1e20


def ideal_gas(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: int) -> Counts:
    """Return counts at densities 1 / (F n_l + 1) of the n_l weights of layer l, with the force F that keeps `keep`."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if not keep:
        return dict.fromkeys(sizes, 0)

    def kept(force: float) -> dict[str, float]:
        return {name: min(room[name], size / (force * size + 1)) for name, size in sizes.items()}

    low, high = 0.0, len(sizes) / keep
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if math.fsum(kept(middle).values()) > keep else (low, middle)
    return rounded_to(kept(high), keep)


def published(shapes: Mapping[str, Shape], room: Mapping[str, int], keep: float, method: Method) -> Counts:
    """Return the counts of the published code: its bisection ends where the total is within one weight."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = sum(sizes.values())
    sparsity = 1 - keep / total

    def reached(force: float) -> float:
        return 1 - sum(size / (force * size + 1) for size in sizes.values()) / total

    low, high = 0.0, _LARGEST_FORCE
    force = next((end for end in (low, high) if abs(reached(end) - sparsity) < 1 / total), None)
    while force is None:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < sparsity else (low, middle)
        force = middle if abs(reached(middle) - sparsity) < 1 / total or middle in (0.0, _LARGEST_FORCE) else None
    return counts_at({name: 1 / (force * size + 1) for name, size in sizes.items()}, shapes, room, method)


IDEAL_GAS = Allocation(
    spelling="igq",
    pattern="igq|ideal_gas_quotas",
    examples=("ideal_gas_quotas",),
    summary="ideal gas quotas: the density of a layer of n weights is 1 / (F n + 1), with one F for all",
    paper="Vysogorets & Kempe 2023, Connectivity Matters: Pruning Through the Lens of Effective Sparsity",
    tested_against="avysogorets/effective-sparsity",
    differences=(
        "F is exact, and counts add up; the published bisection ends within one weight, and each layer is rounded by "
        "itself, so a layer differs by 1 at most (--rounding=effective_sparsity)."
    ),
    kept_per_layer=ideal_gas,
    published={EFFECTIVE_SPARSITY: published},
)
