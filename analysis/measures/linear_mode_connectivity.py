"""Linear mode connectivity (Frankle et al. 2020): the error barrier between the final weights of two runs.

    barrier = max_α E((1 - α) θ_1 + α θ_2) - (E(θ_1) + E(θ_2)) / 2

Two networks are connected if the barrier is about 0: the authors allow 0.02. They use 30 values of α, and test and
train error. With `align`, the units of the second network are first brought into the order in which its weights fit
those of the first (Ainsworth et al. 2022, Git Re-Basin): it computes the same in any order, but the line is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measures.interpolation import Interpolation, InterpolationOptions
from analysis.measures.measure import Measure, Measured
from foundations.description.hparams import hparam
from foundations.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class ConnectivityOptions(InterpolationOptions):
    """The line between the networks, and whether their units are aligned."""

    align: bool = hparam(False)
    """Permute the units of the second run by weight matching, so that they fit those of the first."""


def compute(measuring: Measuring, options: ConnectivityOptions, first: MeasuredRun, second: MeasuredRun) -> Measured:
    """Return the barriers of the error and of the loss, the largest error on the line, and the mean error of its ends.

    The table has a row for each α: its error and loss. Raises: UsageError for runs of different networks or datasets.
    """
    states = first.state(options.step), second.state(options.step)
    if options.align:
        states = states[0], aligned(first, *states)
    line = Interpolation(measuring, options, (first, second)).between(
        *states, lambda done: measuring.progress("interpolate", done, options.points, "networks")
    )
    return Measured(line.summary(), table={"alpha": line.alphas, "error": line.errors, "loss": line.losses})


def aligned(run: MeasuredRun, target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state `source` of a run's network with its units in the order that fits `target` best.

    Raises: UsageError about `align` for a network whose units cannot be permuted.
    """
    from pruning.paths.unit_groups import permuted, unit_groups
    from pruning.paths.weight_matching import weight_matching

    model = run.network()
    try:
        groups = unit_groups(model, run.inputs)
        orders = weight_matching(target, source, groups, [name for name, _ in model.named_parameters()])
    except UsageError as error:
        raise UsageError(error.reason, "align") from error
    return permuted(source, groups, orders)


LINEAR_MODE_CONNECTIVITY = Measure(
    spelling="linear_mode_connectivity",
    summary="error barrier on the line between the weights of two runs",
    paper="Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis",
    options=ConnectivityOptions,
    takes="two runs",
    compute=compute,
)
