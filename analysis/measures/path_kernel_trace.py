"""The trace of the path kernel (Gebhart et al. 2021; Patil and Dovrolis 2021, section 3).

    Tr = Σ_p Σ_{i on p} (π_p / θ_i)^2

over the paths p of kept weights from input to output, π_p the product of the weights on a path. Networks
with a larger trace learn faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measures.measure import Measure, Measured
from foundations.description.hparams import Hparams, hparam

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class PathKernelOptions(Hparams):
    """State to measure."""

    step: str = hparam("0it", step=True)
    """The step whose weights are measured."""


def compute(measuring: Measuring, options: PathKernelOptions, run: MeasuredRun) -> Measured:
    """Return path_kernel_trace, and its natural logarithm, since it grows exponentially with depth."""
    from analysis.measures.statistics import logarithms
    from pruning.paths.path_kernel import path_kernel_trace

    step = run.step(options.step)
    trace = path_kernel_trace(run.model(step).to(measuring.device), run.inputs, run.mask_at(step))
    return Measured(values={"path_kernel_trace": trace, "log": logarithms([trace])[0]})


PATH_KERNEL_TRACE = Measure(
    spelling="path_kernel_trace",
    summary="trace of the path kernel: how fast the network learns",
    paper="Gebhart et al. 2021, A Unified Paths Perspective for Pruning at Initialization",
    options=PathKernelOptions,
    compute=compute,
)
