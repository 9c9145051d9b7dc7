"""Weight matching: the order of units in which a network's weights are nearest to those of another one.

    maximize  sum over weights of  <A, P(B)>   over the permutations P of the groups of units,

which minimizes ||A - P(B)||^2. Groups are matched in turn, each the best for the present order of all others (a linear
assignment), until none improves: algorithm 1 of Ainsworth et al. 2022, Git Re-Basin. Weights, biases, and scales and
shifts of normalization count; running statistics only move along. Turns are in a random order, as published, which is
the same in every call. Adnan et al. 2025, Sparse Training from Random Initialization, move a mask by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from foundations.errors import UsageError
from foundations.random_streams import generator
from pruning.paths.assignment import best_permutation
from pruning.paths.unit_groups import Axis, Orders, UnitGroup, entries

_ROUNDS = 100
_LEAST_GAIN = 1e-12


def weight_matching(
    target: Mapping[str, torch.Tensor],
    source: Mapping[str, torch.Tensor],
    groups: Sequence[UnitGroup],
    parameters: Collection[str],
) -> list[torch.Tensor]:
    """Return the orders of units in which the weights of `source` fit those of `target`, for `unit_groups.permuted`.

    parameters: the names of the tensors that count. Raises: UsageError for states of different networks, or values that
    are not finite.
    """
    states = []
    for state in (target, source):
        states.append({name: state[name].detach().cpu().double() for name in sorted(parameters) if name in state})
    first, second = states
    if {name: each.shape for name, each in first.items()} != {name: each.shape for name, each in second.items()}:
        raise UsageError("the runs have different networks: the units of one do not match those of the other.")
    if not all(bool(each.isfinite().all()) for state in states for each in state.values()):
        raise UsageError("weights that are not finite cannot be matched.")
    orders = [torch.arange(group.units) for group in groups]
    of_axis = {(axis.tensor, axis.dim): number for number, group in enumerate(groups) for axis in group.axes}
    for turn in range(_ROUNDS):
        is_better = False
        for number in torch.randperm(len(groups), generator=generator("weight matching", turn)).tolist():
            gains = _gains(first, second, groups, orders, of_axis, number)
            before = gains[np.arange(len(gains)), orders[number].numpy()].sum()
            found = best_permutation(gains)
            if gains[np.arange(len(gains)), found].sum() > before + _LEAST_GAIN:
                orders[number], is_better = torch.from_numpy(found), True
        if not is_better:
            break
    return orders


def _gains(
    first: Mapping[str, torch.Tensor],
    second: Mapping[str, torch.Tensor],
    groups: Sequence[UnitGroup],
    orders: Orders,
    of_axis: Mapping[tuple[str, int], int],
    number: int,
) -> NDArray[np.float64]:
    """Return the part of each unit of `second`, at each place of a group, in the sum: (places, units)."""
    size = groups[number].units
    gains = torch.zeros(size, size, dtype=torch.float64)
    for axis in groups[number].axes:
        if axis.tensor not in first:
            continue
        moved = second[axis.tensor]
        for dim in range(moved.dim()):
            other = of_axis.get((axis.tensor, dim))
            if dim != axis.dim and other is not None:
                repeat = moved.shape[dim] // groups[other].units
                moved = moved.index_select(dim, entries(orders[other], repeat))
        gains += _by_unit(first[axis.tensor], axis, size) @ _by_unit(moved, axis, size).T
    found: NDArray[np.float64] = gains.numpy()
    return found


def _by_unit(tensor: torch.Tensor, axis: Axis, units: int) -> torch.Tensor:
    """Return a tensor with a row for each unit: (units, rest)."""
    return tensor.movedim(axis.dim, 0).reshape(units, -1)
