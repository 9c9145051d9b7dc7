"""Layer-wise conservation of squared weights over training (Tanaka et al. 2020, section 5 and figure 5b).

Gradient descent equalizes the squared weights of layers, so magnitude pruning collapses layers before training, but not
after it. For each kept state and each layer l of n_l weights and biases,

    average(l) = Σ_{w in l} w^2 / n_l   against   1 / n_l.

Pruned weights are zero and count in n_l.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.measures.measure import Measure, Measured, columns
from analysis.measures.scores import bias_of
from analysis.measures.statistics import power_law
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
    rows: list[dict[str, Any]] = []
    fits = []
    for done, (step, state) in enumerate(zip(steps, run.states(steps), strict=True), start=1):
        of_step = []
        for name in layers:
            parts = [state[part].to(torch.float64) for part in (name, bias_of(name)) if part in state]
            size = sum(part.numel() for part in parts)
            of_step.append(
                {
                    "step": step.iteration,
                    "epoch": step.iteration / step.iterations_per_epoch,
                    "layer": name,
                    "size": size,
                    "inverse_size": 1 / size,
                    "average_squared_weight": sum(float(part.square().sum()) for part in parts) / size,
                }
            )
        table = columns(of_step)
        fits.append(power_law(table["inverse_size"], table["average_squared_weight"]))
        rows += of_step
        measuring.progress("measure", done, len(steps), "states")
    ends = {"first": fits[0], "last": fits[-1]}
    values = {f"{place}_{name}": value for place, fit in ends.items() for name, value in fit.items()}
    return Measured(values, columns(rows))


LOTTERY_LAYER_CONSERVATION = Measure(
    spelling="lottery_layer_conservation",
    summary="average squared weight of each layer against its inverse size, over training",
    paper="Tanaka et al. 2020, Pruning neural networks without any data (SynFlow), figure 5b",
    options=StepsOptions,
    compute=compute,
)
