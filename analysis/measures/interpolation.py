"""Networks on the line between two states, and the error barrier between its ends. Imports no torch.

    θ(α) = (1 - α) θ_1 + α θ_2,   barrier = max_α E(θ(α)) - (E(θ_1) + E(θ_2)) / 2,

with α at points of equal distance from 0 to 1, both included, and E the error or the loss (Frankle et
al. 2020, section 2). All values of a state are interpolated, including batchnorm's running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.measures.data import DataOptions, Examples
from analysis.measures.measure import StepOptions
from foundations.description.hparams import hparam
from foundations.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.measures.inputs import MeasuredRun, Measuring


@dataclass(frozen=True, kw_only=True)
class InterpolationOptions(StepOptions, DataOptions):
    """States at the ends, the number of networks on the line, and the examples for their evaluation."""

    points: int = hparam(30, at_least=2)
    """The number of networks on the line, the ends included."""
    recompute_batchnorm: bool = hparam(False)
    """Give each network the batchnorm statistics that it has on the training set, in place of interpolated ones."""


@dataclass(frozen=True)
class Interpolated:
    """Errors and losses on the line between two states.

    The error is 1 - accuracy, or of another headline metric of the task, such as R²; the metric itself where less is
    better, such as perplexity.
    """

    alphas: list[float]
    errors: list[float]
    losses: list[float]

    def summary(self) -> dict[str, float]:
        """Return the barriers of error and loss, at least 0, the largest error and the mean error of the ends."""
        return {
            "barrier": _barrier(self.errors),
            "max_error": max(self.errors),
            "ends_error": (self.errors[0] + self.errors[-1]) / 2,
            "loss_barrier": _barrier(self.losses),
        }


class Interpolation:
    """Evaluates networks between states of runs with the same architecture and dataset."""

    def __init__(self, measuring: Measuring, options: InterpolationOptions, runs: Sequence[MeasuredRun]) -> None:
        """Open the data of the runs. Raises: UsageError if they are of several datasets."""
        self.options, self.measuring = options, measuring
        run = runs[0]
        self.headline = run.trained.headline
        for other in runs[1:]:
            name = other.trained.dataset.dataset_name
            if name != run.trained.dataset.dataset_name:
                raise UsageError(f"{run} and {other} are trained on different datasets.")
            measuring.use_dataset(other, name)
        self.model = run.network().to(measuring.device)
        self.examples = Examples(measuring, run, options)
        self.training = Examples(measuring, run, DataOptions(split="train")) if options.recompute_batchnorm else None

    def between(
        self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], on_point: Callable[[int], None]
    ) -> Interpolated:
        """Return errors and losses on the line. on_point: called with the number of finished points.

        Raises: UsageError for states of different networks.
        """
        from training.structure import load_state

        if {name: part.shape for name, part in first.items()} != {name: part.shape for name, part in second.items()}:
            raise UsageError("the runs have different networks: nothing is between their weights.")
        alphas = [index / (self.options.points - 1) for index in range(self.options.points)]
        line = Interpolated(alphas, [], [])
        for done, alpha in enumerate(alphas, start=1):
            load_state(self.model, interpolated(first, second, alpha))
            if self.training is not None:
                recompute_batchnorm(self.model, self.training)
            found = self.examples.evaluate(self.model)
            value = found[self.headline.spelling]
            line.errors.append(1 - value if self.headline.higher_is_better else value)
            line.losses.append(found["loss"])
            on_point(done)
        return line


def interpolated(first: Mapping[str, Tensor], second: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return (1 - alpha) first + alpha second, for each tensor; integers (counts of batches) are the first's."""
    return {name: part.lerp(second[name], alpha) if part.is_floating_point() else part for name, part in first.items()}


def recompute_batchnorm(model: nn.Module, examples: Examples) -> None:
    """Set the running statistics of batchnorm to the means over the batches of some examples, in place."""
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for _ in examples.logits(model) if norms else ():
        pass
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _barrier(values: Sequence[float]) -> float:
    return max(values) - (values[0] + values[-1]) / 2
