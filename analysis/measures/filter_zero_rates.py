"""Zeros in the filters of convolutions (Jaiswal et al. 2022, ToST).

    rate(f) = |{w in f: |w| <= magnitude}| / |f|,   share(l) = |{f in l: rate(f) > zero_rate}| / |{f in l}|.

A filter has the weights of one output channel. ToST counts filters with more than 90 % zeros ('relaxed zero kernels':
the defaults), and filters with more than 95 % of weights below 1e-5 (--zero_rate=0.95 --magnitude=1e-5). Its histograms
and its maps of live filters are drawn from the rates (--rows=filter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measures.measure import Columns, Measure, Measured, StepOptions
from foundations.description.hparams import hparam
from foundations.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class FilterOptions(StepOptions):
    """State, and the thresholds for zero weights and zero filters."""

    magnitude: float = hparam(0.0, at_least=0)
    """A weight of at most this magnitude is a zero."""
    zero_rate: float = hparam(0.9, at_least=0, at_most=1)
    """A filter with a larger share of zeros is a zero filter."""
    rows: str = hparam("layer", choices=("layer", "filter"))
    """The rows of the table: one per layer, or one per filter."""


def compute(_: Measuring, options: FilterOptions, run: MeasuredRun) -> Measured:
    """Return the number of filters, of zero filters, their share, and the rate of zeros over all filters' weights.

    Raises: UsageError for a network without convolutions (transposed ones do not count).
    """
    zeros = {name: zeros_of(weight, options.magnitude) for name, weight in filters_of(run, options.step).items()}
    rates = {name: layer.double().mean(1).tolist() for name, layer in zeros.items()}
    dead = {name: sum(rate > options.zero_rate for rate in rates[name]) for name in rates}
    number = sum(map(len, rates.values()))
    if options.rows == "filter":
        table: Columns = {
            "layer": [name for name in rates for _ in rates[name]],
            "filter": [index for name in rates for index in range(len(rates[name]))],
            "size": [layer.shape[1] for layer in zeros.values() for _ in layer],
            "zero_rate": [rate for name in rates for rate in rates[name]],
        }
    else:
        table = {
            "layer": list(rates),
            "filters": [len(rates[name]) for name in rates],
            "zero_filters": list(dead.values()),
            "share": [dead[name] / len(rates[name]) for name in rates],
            "zero_rate": [sum(rates[name]) / len(rates[name]) for name in rates],
        }
    return Measured(
        values={
            "filters": number,
            "zero_filters": sum(dead.values()),
            "share": sum(dead.values()) / number,
            "zero_rate": sum(int(layer.sum()) for layer in zeros.values())
            / sum(layer.numel() for layer in zeros.values()),
        },
        table=table,
    )


def filters_of(run: MeasuredRun, step: str | None) -> dict[str, Tensor]:
    """Return the weights of a run's convolutions at a step, by name in the network's order: (filters, in, ...).

    Raises: UsageError for a network without convolutions (transposed ones do not count).
    """
    from torch import nn

    found = {
        f"{name}.weight": module.weight.detach()
        for name, module in run.model(step).named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    }
    if not found:
        raise UsageError(f"{run.trained.model.model_name} has no convolutions, so it has no filters.")
    return found


def zeros_of(weight: Tensor, magnitude: float) -> Tensor:
    """Return a bool tensor that marks zero weights: (filters, weights of a filter)."""
    return weight.abs().le(magnitude).flatten(1)


FILTER_ZERO_RATES = Measure(
    spelling="filter_zero_rates",
    summary="share of zeros in each filter of convolutions, and of filters with hardly anything else",
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask (ToST)",
    options=FilterOptions,
    compute=compute,
)
