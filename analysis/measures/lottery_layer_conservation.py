"""Layer-wise conservation of squared weights over training (Tanaka et al. 2020, section 5 and figure 5b).

Gradient descent equalizes the squared weights of layers, so magnitude pruning collapses layers before training, but not
after it. For each kept state and each layer l of n_l weights and biases,

    average(l) = Σ_{w in l} w^2 / n_l   against   1 / n_l.

Pruned weights are zero and count in n_l.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.measures.measure import Columns, Measure, Measured
from analysis.measures.scores import bias_of
from analysis.measures.statistics import correlation, logarithms, slope
from foundations.description.hparams import Hparams, hparam

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class StepsOptions(Hparams):
    """States to measure."""

    steps: str | None = hparam(None, step_list=True)
    """The steps, such as 0it,1ep,2ep or 0ep-100ep@1ep; by default all whose states were kept. Others are computed with
    --replay."""


def compute(measuring: Measuring, options: StepsOptions, run: MeasuredRun) -> Measured:
    """Return correlation and slope of log average over log 1 / size at the first and at the last step.

    The table has a row for each step and layer. Raises: UsageError for a state that was not kept.
    """
    import torch

    from pruning.masks.mask import Mask

    steps = run.chosen_steps(options.steps)
    network = run.network()
    prunable = Mask.ones(network)
    layers = [name for name, _ in network.named_parameters() if name in prunable]
    table: Columns = {
        "step": [],
        "epoch": [],
        "layer": [],
        "size": [],
        "inverse_size": [],
        "average_squared_weight": [],
    }
    fits = []
    for done, (step, state) in enumerate(zip(steps, run.states(steps), strict=True), start=1):
        sizes, averages = [], []
        for name in layers:
            parts = [state[part].to(torch.float64) for part in (name, bias_of(name)) if part in state]
            sizes.append(sum(part.numel() for part in parts))
            averages.append(sum(float(part.square().sum()) for part in parts) / sizes[-1])
        inverse = [1 / size for size in sizes]
        fits.append((logarithms(inverse), logarithms(averages)))
        epoch = step.iteration / step.iterations_per_epoch
        rows: tuple[list[Any], ...] = (
            [step.iteration] * len(layers),
            [epoch] * len(layers),
            layers,
            sizes,
            inverse,
            averages,
        )
        for column, values in zip(table.values(), rows, strict=True):
            column.extend(values)
        measuring.progress("measure", done, len(steps), "states")
    return Measured(
        values={
            f"{place}_{name}": function(*fit)
            for place, fit in (("first", fits[0]), ("last", fits[-1]))
            for name, function in (("correlation", correlation), ("slope", slope))
        },
        table=table,
    )


LOTTERY_LAYER_CONSERVATION = Measure(
    spelling="lottery_layer_conservation",
    summary="average squared weight of each layer against its inverse size, over training",
    paper="Tanaka et al. 2020, Pruning neural networks without any data (SynFlow), figure 5b",
    options=StepsOptions,
    compute=compute,
)
