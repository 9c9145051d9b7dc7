"""The ratio of cut and flow in SynFlow's iterations (Tanaka et al. 2020, theorem 3 and figure 7).

An iteration that prunes a set C of weights from a network with synaptic flow R = 1ᵀ f(1; |θ|) has the ratio

    (Σ_{w in C} S(w)) / R,   S = |w ⊙ ∂R/∂w|.

While it is below 1 (the 'prune size' is no more than the 'cut size'), no layer is pruned completely. The measure is the
maximum over the iterations of pruning to a density of 10^-exponent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from analysis.measures.measure import Measure, Measured, columns
from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError
from pruning.registry import SCHEDULES

if TYPE_CHECKING:
    from torch import nn

    from analysis.measures.inputs import MeasuredRun, Measuring
    from foundations.inputs import Inputs
    from pruning.masks.mask import Mask

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class FlowRatioOptions(Hparams):
    """State, and the prunings to measure: every combination of these options."""

    step: str = hparam("0it", step=True)
    """The step whose weights are pruned."""
    schedules: str = hparam("linear,exponential")
    """Schedules of the number of weights over the iterations, separated by commas."""
    exponents: str = hparam("1,2,3")
    """Exponents of the compression, separated by commas: 2 prunes to a density of 10^-2."""
    iterations: str = hparam("1,10,100")
    """Numbers of iterations, separated by commas."""

    def validate(self) -> None:
        """Check every entry of the lists."""
        for schedule in self.schedule_names:
            if schedule not in SCHEDULES:
                raise UsageError(SCHEDULES.unknown(schedule).reason, "schedules")
        if any(exponent < 0 for exponent in self.exponent_numbers):
            raise UsageError("exponents are at least 0.", "exponents")
        if any(number < 1 for number in self.iteration_numbers):
            raise UsageError("there is at least 1 iteration.", "iterations")

    @property
    def schedule_names(self) -> list[str]:
        """The schedules."""
        return _entries(self.schedules, str, "schedules")

    @property
    def exponent_numbers(self) -> list[float]:
        """The exponents."""
        return _entries(self.exponents, float, "exponents")

    @property
    def iteration_numbers(self) -> list[int]:
        """The numbers of iterations."""
        return _entries(self.iterations, int, "iterations")

    def simplified(self) -> FlowRatioOptions:
        """Return the same lists with normalized entries."""
        return self.replaced(
            {
                "schedules": ",".join(self.schedule_names),
                "exponents": ",".join(f"{exponent:g}" for exponent in self.exponent_numbers),
                "iterations": ",".join(map(str, self.iteration_numbers)),
            }
        )

    def plugins(self) -> list[Any]:
        """Return the plug-ins that provide the schedules."""
        return [*super().plugins(), *filter(None, map(SCHEDULES.plugin_of, self.schedule_names))]


def _entries(text: str, kind: Callable[[str], Any], name: str) -> list[Any]:
    try:
        found = [kind(entry) for entry in text.split(",") if entry]
    except ValueError as error:
        raise UsageError(f"'{text}' is not a list of numbers, separated by commas.", name) from error
    if not found or any(isinstance(entry, float) and not math.isfinite(entry) for entry in found):
        raise UsageError(f"'{text}' is not a list of numbers, separated by commas.", name)
    return list(dict.fromkeys(found))


def compute(measuring: Measuring, options: FlowRatioOptions, run: MeasuredRun) -> Measured:
    """Return the ratio at the highest exponent and most iterations, by schedule. The table has every combination.

    Iterations that begin without any flow, after a layer is empty, do not count; NaN if none count.
    """
    step = run.step(options.step)
    model, start = run.model(step).to(measuring.device), run.mask_at(step)
    wanted = list(itertools.product(options.schedule_names, options.exponent_numbers, options.iteration_numbers))
    total, done = sum(number for _, _, number in wanted), 0
    rows: list[dict[str, Any]] = []
    for schedule, exponent, number in wanted:

        def progress(iteration: int, before: int = done) -> None:
            measuring.progress("prune", before + iteration, total, "iterations")

        ratio = max_ratio(model, run.inputs, start, schedule, 10.0**-exponent, number, progress=progress)
        rows.append({"schedule": schedule, "exponent": exponent, "iterations": number, "ratio": ratio})
        done += number
    hardest = max(options.exponent_numbers), max(options.iteration_numbers)
    last = [row for row in rows if (row["exponent"], row["iterations"]) == hardest]
    return Measured({f"{row['schedule']}_ratio": row["ratio"] for row in last}, columns(rows))


def max_ratio(
    model: nn.Module,
    inputs: Inputs,
    start: Mask | None,
    schedule: str,
    density: float,
    iterations: int,
    progress: Callable[[int], None] = lambda _: None,
) -> float:
    """Return the largest ratio of cut and flow over the iterations of SynFlow. progress: called after each iteration.

    start: the mask to start from; None for all weights. The model is not changed.
    """
    import torch

    from pruning.compute_mask import mask_from_hparams
    from pruning.hparams import PruningHparams
    from pruning.masks.mask import Mask
    from pruning.methods.synflow import make_absolute
    from pruning.scoring.inputs import ScoringInputs, one_example
    from pruning.weights.named_weights import plain_copy

    hparams: Any = PruningHparams.of(
        {"strategy": "synflow", "density": density, "prune_iterations": iterations, "prune_schedule": schedule}
    )
    network = plain_copy(model).double().eval()
    ones = inputs.blank(1, next(network.parameters()).device, torch.float64)
    former = start or Mask.ones(model)
    ratios: list[float] = []

    @torch.no_grad()
    def on_iteration(iteration: int, mask: Mask, scores: dict[str, torch.Tensor]) -> None:
        nonlocal former
        flow = float(network(ones).sum())
        cut = sum(float(scores[name].cpu()[former[name] & ~mask[name]].sum()) for name in mask)
        if flow > 0:
            ratios.append(cut / flow)
        mask.apply_(network)
        former = mask
        progress(iteration)

    with torch.no_grad():
        make_absolute(network, hparams)
        former.apply_(network)
    scoring = ScoringInputs(seed=0, **one_example(inputs))
    mask_from_hparams(model, hparams, scoring, mask=start, on_iteration=on_iteration)
    return max(ratios, default=math.nan if density < 1 else 0.0)


SYNAPTIC_FLOW_RATIO = Measure(
    spelling="synaptic_flow_ratio",
    summary="largest ratio of what an iteration of SynFlow cuts and the flow, by schedule",
    paper="Tanaka et al. 2020, Pruning neural networks without any data (SynFlow), figure 7",
    options=FlowRatioOptions,
    compute=compute,
)
