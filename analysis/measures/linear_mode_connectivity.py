"""Linear mode connectivity (Frankle et al. 2020): the error barrier between the final weights of two runs.

    barrier = max_α E((1 - α) θ_1 + α θ_2) - (E(θ_1) + E(θ_2)) / 2

Two networks are connected if the barrier is about 0: the authors allow 0.02. They use 30 values of α, and test and
train error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.measures.interpolation import Interpolation, InterpolationOptions
from analysis.measures.measure import Measure, Measured

if TYPE_CHECKING:
    from analysis.measures.inputs import MeasuredRun, Measuring


def compute(measuring: Measuring, options: InterpolationOptions, first: MeasuredRun, second: MeasuredRun) -> Measured:
    """Return the barriers of the error and of the loss, the largest error on the line, and the mean error of its ends.

    The table has a row for each α: its error and loss. Raises: UsageError for runs of different networks or datasets.
    """
    states = first.state(options.step), second.state(options.step)
    line = Interpolation(measuring, options, (first, second)).between(
        *states, lambda done: measuring.progress("interpolate", done, options.points, "networks")
    )
    return Measured(line.summary(), table={"alpha": line.alphas, "error": line.errors, "loss": line.losses})


LINEAR_MODE_CONNECTIVITY = Measure(
    spelling="linear_mode_connectivity",
    summary="error barrier on the line between the weights of two runs",
    paper="Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis",
    options=InterpolationOptions,
    takes="two runs",
    compute=compute,
)
