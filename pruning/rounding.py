"""The number of weights that an iteration keeps, as published code bases count it. Imports no torch.

`nearest` is not here: it takes the last count from `pruning.level` and those before it from the schedule. The published
codes round in every iteration, and treat equal scores alike. N weights are prunable, d is the requested density, and n
the number of iterations:

    synaptic_flow   iteration e prunes int((1 - d_e) N) of all N, d_e = d^(e/n), or 1 - (1 - d) e/n if linear; ties go
    openlth         each prunes ceil(f R) of the R that are left, f = 1 - d^(1/n), and one more unless it prunes the
                    highest scores; ties go
    force           iteration e keeps int(N d_e), d_e = exp(e ln(d) / n), or 1 - e (1 - d)/n if linear; ties stay
    prospr          keeps ceil(N d), d = 1 - f of the prune fraction f; ties go in order; one iteration
    second_order    keeps int(N d), at least 1, likewise (Scalable_Second_Order_PaI)
    acdc            keeps ceil(N d) - 1, likewise; ties go (IST-DASLab/ACDC)
    lamp            each keeps round(R d^(1/n)) of the R that are left, a half to the even number; ties stay

They repeat the floating-point arithmetic of the published codes, and so their counts. Allocations can have published
counts of their own by layer (`Allocation.published`), whose names are roundings too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from foundations.errors import UsageError, invalid
from pruning.registry import ALLOCATIONS

if TYPE_CHECKING:
    from pruning.allocations.allocation import Allocation
    from pruning.hparams import PruningHparams

NEAREST, SYNAPTIC_FLOW, OPENLTH, FORCE, LAMP = "nearest", "synaptic_flow", "openlth", "force", "lamp"
PROSPR, SECOND_ORDER, ACDC = "prospr", "second_order", "acdc"

Ties = Literal["in_order", "pruned", "kept"]
"""The weights at the threshold that are pruned: the first ones, as many as necessary; all; or none."""

_ONE_SHOT = (PROSPR, SECOND_ORDER, ACDC)
_ALLOCATIONS = {
    SYNAPTIC_FLOW: ("global", "uniform"),
    **dict.fromkeys((OPENLTH, FORCE, *_ONE_SHOT), ("global",)),
    LAMP: ("lamp",),
}
_SCHEDULES = {
    SYNAPTIC_FLOW: ("exponential", "linear"),
    OPENLTH: ("exponential",),
    FORCE: ("exponential", "linear"),
    LAMP: ("exponential",),
}


class Roundings(Sequence[str]):
    """The names of all roundings: those of this file, and those of allocations, plug-ins' too."""

    def _names(self) -> list[str]:
        own = (rounding for allocation in ALLOCATIONS for rounding in allocation.published)
        return list(dict.fromkeys((NEAREST, *_ALLOCATIONS, *own)))

    def __len__(self) -> int:
        return len(self._names())

    def __getitem__(self, index: Any) -> Any:
        return self._names()[index]


def check_rounding(rounding: str, allocation: Allocation, schedule: str, iterations: int) -> None:
    """Check that the published code has the allocation, the schedule and iterations. Raises: UsageError."""
    if rounding in _ONE_SHOT and iterations > 1:
        raise UsageError(f"with the rounding {rounding}, it takes 1: its code prunes once.", "prune_iterations")
    if rounding == NEAREST or rounding in allocation.published:
        return
    of_code = [entry.spelling for entry in ALLOCATIONS if rounding in entry.published]
    possible = {
        "allocation": (allocation.spelling, (*_ALLOCATIONS.get(rounding, ()), *of_code)),
        "prune_schedule": (schedule, _SCHEDULES.get(rounding, (schedule,))),
    }
    for name, (value, choices) in possible.items():
        if value not in choices:
            raise UsageError(f"with the rounding {rounding}, {invalid(value, name, choices).reason}", name)


def ties_of(rounding: str, allocation: Allocation) -> Ties:
    """Return the treatment of weights whose score equals the threshold."""
    if rounding in allocation.published:
        return "in_order"
    return (
        "pruned" if rounding in (SYNAPTIC_FLOW, OPENLTH, ACDC) else "kept" if rounding in (FORCE, LAMP) else "in_order"
    )


@dataclass(frozen=True)
class Counted:
    """Weights that are counted together."""

    total: int
    start: int
    """Number of weights that the starting mask keeps."""
    ignored: int = 0
    """Number of these that are counted and never pruned."""


def kept_as_published(hparams: PruningHparams, counted: Counted, done: int, kept: int) -> int:
    """Return the number of weights that an iteration keeps, without the ignored ones, if no scores are equal.

    done: the number of the iteration, from 1. kept: the number that is kept before it, without the ignored ones.

    Raises: UsageError where the published code finds no threshold: nothing would be left.
    """
    total, ignored, iterations = counted.total, counted.ignored, hparams.prune_iterations
    density = round(1 - hparams.level, 12)  # without the rounding error of 1 - p: 0.2 for a prune fraction of 0.8
    is_linear = hparams.prune_schedule == "linear"
    if hparams.rounding == SYNAPTIC_FLOW:
        now = 1 - (1 - density) * (done / iterations) if is_linear else float(density ** (done / iterations))
        return max(0, min(kept, total - int((1 - now) * total) - ignored))
    if hparams.rounding == FORCE and is_linear:
        keep = int(total * (1 - done * (1 - density) / iterations)) - ignored
    elif hparams.rounding == FORCE:
        keep = (int(total * math.exp(done * math.log(density) / iterations)) if density else 0) - ignored
    elif hparams.rounding in _ONE_SHOT:
        share = total * (1 - hparams.level)
        one_shot = {PROSPR: math.ceil(share), SECOND_ORDER: max(int(share), 1), ACDC: math.ceil(share) - 1}
        keep = one_shot[hparams.rounding] - ignored
    else:
        # Of the weights of the starting mask, at the end.
        left = 1 - hparams.level if hparams.rounding == OPENLTH else density
        if counted.start != total:
            left = min(1.0, left * total / counted.start)
        each = left ** (1 / iterations)
        if hparams.rounding == OPENLTH:
            prunes_highest = hparams.prune_direction == "highest"
            keep = kept - math.ceil((kept + ignored) * (1 - each)) - (0 if prunes_highest else 1)
        else:
            keep = round((kept + ignored) * each) - ignored
    if keep < 1:
        raise UsageError(
            f"{hparams.rounding} finds no threshold: nothing would be left of {total} weights.", "rounding"
        )
    return keep
