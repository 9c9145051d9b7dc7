"""Cyclic training (TurboPrune): several cycles, each with the whole schedule of the learning rate and a new optimizer.

Cycle c of C has the share s_c of the training, and the learning rate of a training of that length:
s_c = 1 / C (constant), c / (1 + ... + C) (linear_increase), 2^c / (2 + ... + 2^C) (exponential_increase), or these in
reverse order. In a lottery, each level trains so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self

from foundations.description.hparams import ALWAYS_WRITTEN, hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams, Training

_GROWTH: dict[str, Callable[[int], int]] = {
    "constant": lambda _: 1,
    "linear": lambda cycle: cycle,
    "exponential": lambda cycle: 2**cycle,
}
_MOST = 50


@dataclass(frozen=True, kw_only=True)
class CyclicHparams(TechniqueHparams):
    """The cycles of training."""

    cycles: int = hparam(4, at_least=1, at_most=_MOST, elided=ALWAYS_WRITTEN)
    """The number of cycles. Steps of --milestone_steps and --warmup_steps count from the start of each."""
    cycle_lengths: str = hparam(
        "constant",
        choices=("constant", "linear_increase", "linear_decrease", "exponential_increase", "exponential_decrease"),
    )
    """The lengths of the cycles: all the same, or growing or falling from one to the next: by the first one's length
    (linear), or twofold (exponential)."""

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Refuse more cycles than a training has iterations."""
        bounds = self.bounds(end.iteration)
        if any(first == after for first, after in pairwise(bounds)):
            raise UsageError(f"{end.iteration} iterations are too few for {self.cycles} cycles.", "cycles")
        return self

    def bounds(self, iterations: int) -> list[int]:
        """Return the first iteration of each cycle, and the end."""
        shape, _, direction = self.cycle_lengths.partition("_")
        shares = [_GROWTH[shape](cycle) for cycle in range(1, self.cycles + 1)]
        ordered = shares[::-1] if direction == "decrease" else shares
        return [0, *(iterations * so_far // sum(shares) for so_far in accumulate(ordered))]


class Cyclic(Hooks[CyclicHparams]):
    """Begin the schedule and the optimizer again in each cycle."""

    def __init__(self, training: Training, hparams: CyclicHparams) -> None:
        super().__init__(training, hparams)
        from training.loop.lr_schedule import learning_rate

        self.bounds = hparams.bounds(training.end.iteration)
        own, per_epoch = training.desc.training, training.desc.iterations_per_epoch
        self.rates = [
            learning_rate(own.replaced({"training_steps": f"{after - first}it"}), per_epoch)
            for first, after in pairwise(self.bounds)
        ]

    def before_step(self, step: Step) -> None:
        """Begin a new optimizer at the start of every cycle but the first."""
        if step.iteration in self.bounds[1:-1]:
            self.training.restart_optimizer()

    def learning_rate(self, step: Step, rate: float) -> float:
        """Return the learning rate of the schedule of the cycle."""
        cycle = bisect_right(self.bounds, step.iteration) - 1
        return self.rates[cycle](step.iteration - self.bounds[cycle])


CYCLIC = Technique(
    spelling="cyclic",
    known_as=("cyclic_lr", "turboprune", "warm_restarts", "sgdr"),
    summary="train in cycles, each with the whole schedule and a new optimizer",
    paper="TurboPrune, https://github.com/nelaturuharsha/TurboPrune",
    differences=(
        "Cycles divide the iterations; TurboPrune divides the epochs and drops what is left over. Its published code "
        "fails for more than one cycle."
    ),
    hparams=CyclicHparams,
    hooks=Cyclic,
)
