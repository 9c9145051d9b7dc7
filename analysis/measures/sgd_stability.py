"""Stability to SGD noise (Frankle et al. 2020): error barriers between runs that differ only in the order of data.

A state is stable if networks that train from it with different orders of the data are linearly connected: the barrier
(`linear_mode_connectivity`) between their last states is about 0. The authors call the mean barrier over pairs
instability. Run the children of a state with --data_order_seed=1, 2, ...
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.measures.interpolation import Interpolation, InterpolationOptions
from analysis.measures.measure import Measure, Measured, columns
from foundations.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.measures.inputs import MeasuredRun, Measuring


def compute(measuring: Measuring, options: InterpolationOptions, *runs: MeasuredRun) -> Measured:
    """Return the mean and the largest barrier over all pairs of runs, and the mean barrier of the loss.

    The table has a row for each pair. Raises: UsageError if the runs differ in their first weights, mask or training,
    except for the order of data.
    """
    refuse_other_differences(runs)
    states = [run.state(options.step) for run in runs]
    interpolation = Interpolation(measuring, options, runs)
    pairs = list(itertools.combinations(range(len(runs)), 2))
    rows: list[dict[str, Any]] = []
    for one, other in pairs:

        def progress(done: int) -> None:
            before = len(rows) * options.points
            measuring.progress("interpolate", before + done, len(pairs) * options.points, "networks")

        line = interpolation.between(states[one], states[other], progress)
        rows.append({"first": runs[one].address, "second": runs[other].address, **line.summary()})
    table = columns(rows)
    return Measured(
        values={
            "mean_barrier": sum(table["barrier"]) / len(pairs),
            "max_barrier": max(table["barrier"]),
            "mean_loss_barrier": sum(table["loss_barrier"]) / len(pairs),
        },
        table=table,
    )


def refuse_other_differences(runs: Sequence[MeasuredRun]) -> None:
    """Raise UsageError unless runs start from equal weights and masks and differ only in the order of data.

    Replicates that start from one state are its children as well, but their augmentation differs too.
    """
    first = runs[0]
    start, mask = first.state(first.description.start), first.mask_at(first.description.start)
    orders = {_order(first)}
    for run in runs[1:]:
        if _without_order(run) != _without_order(first):
            raise UsageError(f"{first} and {run} are trained in different ways, not just on other orders of the data.")
        if not _equal(start, run.state(run.description.start)):
            raise UsageError(f"{first} and {run} do not start from the same weights.")
        if mask != run.mask_at(run.description.start):
            raise UsageError(f"{first} and {run} do not have the same mask.")
        orders.add(_order(run))
    if len(orders) < len(runs):
        raise UsageError("two of the runs see the data in the same order; give each another.", "data_order_seed")


def _order(run: MeasuredRun) -> int:
    seed = run.trained.training.data_order_seed
    return run.replicate if seed is None else seed


def _without_order(run: MeasuredRun) -> tuple[Any, ...]:
    """Return the description of a run's training, without the order of data."""
    from branches.desc import techniques_in
    from foundations.description.desc import RunRef

    trained = run.trained
    training = dataclasses.replace(trained.training, data_order_seed=None)
    techniques = techniques_in(RunRef(run.description))
    return trained.dataset, trained.model, training, techniques, run.description.start, run.description.end


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    import torch

    return first.keys() == second.keys() and all(torch.equal(part, second[name]) for name, part in first.items())


SGD_STABILITY = Measure(
    spelling="sgd_stability",
    summary="error barriers between runs from one state that differ in the order of data",
    paper="Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis",
    options=InterpolationOptions,
    takes="several runs",
    compute=compute,
)
