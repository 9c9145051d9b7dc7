"""Maps of live kernels in convolutions (Jaiswal et al. 2022, ToST).

Kernel (f, c) has the weights of filter f for input channel c. It is alive if any of its weights is larger than a
magnitude, by default 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.measures.filter_zero_rates import filters_of
from analysis.measures.measure import Measure, Measured, StepOptions, columns
from foundations.description.hparams import hparam

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class KernelOptions(StepOptions):
    """State, and the threshold for live kernels."""

    magnitude: float = hparam(0.0, at_least=0)
    """A weight of at most this magnitude is a zero."""


def compute(_: Measuring, options: KernelOptions, run: MeasuredRun) -> Measured:
    """Return the number of kernels, and the number and share of live ones.

    The table has a row for each filter: its layer, its number there, the number of its live kernels, and its row of
    the layer's map, a text with a digit for each input channel: 1 for a live kernel, else 0.
    Raises: UsageError for a network without convolutions (transposed ones do not count).
    """
    rows: list[dict[str, Any]] = []
    kernels = 0
    for name, weight in filters_of(run, options.step).items():
        alive = weight.abs().gt(options.magnitude).flatten(2).any(2)
        kernels += alive.numel()
        for number, row in enumerate(alive.tolist()):
            digits = "".join("1" if kernel else "0" for kernel in row)
            rows.append({"layer": name, "filter": number, "alive": sum(row), "map": digits})
    number = sum(row["alive"] for row in rows)
    return Measured({"kernels": kernels, "alive": number, "share": number / kernels}, columns(rows))


KERNEL_MAPS = Measure(
    spelling="kernel_maps",
    summary="which kernels of convolutions are alive, by filter and input channel",
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask (ToST)",
    options=KernelOptions,
    compute=compute,
)
