"""ITOP, in-time over-parameterization (Liu et al. 2021): RigL or SET with long intervals and updates until the end.

The more weights have been tried, the better: the exploration rate R_s is the share of the weights that the mask has
kept at any time so far. `itop_growth` chooses the form: gradient (RigL), random (SET), or random_unfired: at random
among the weights that have never been kept, while there are some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from training.technique import Technique, Training
from training.techniques.after_step import AfterStep, AfterStepHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask

GRADIENT, RANDOM, UNFIRED = GROWTHS = ("gradient", "random", "random_unfired")


@dataclass(frozen=True, kw_only=True)
class ItopHparams(AfterStepHparams):
    """The mask's updates after steps of the optimizer, and the mask at the start of a training that has none."""

    itop_growth: str = hparam(GRADIENT, choices=GROWTHS)
    """The weights that grow: those of the largest gradient (gradient, as RigL), random ones (random, as SET), or random
    ones that were never kept before (random_unfired)."""
    itop_bernoulli: bool = hparam(False)
    """Grow each weight with probability (number dropped) / (number not kept), as the published code does for random
    growth. Then the density drifts; by default, exactly as many grow as were dropped."""

    @property
    def uses_seed(self) -> bool:
        """Whether the start or growth is random."""
        return self.itop_growth != GRADIENT or super().uses_seed

    def simplified(self) -> Self:
        """Reset fields that cannot change the result."""
        bernoulli = self.itop_bernoulli and self.itop_growth == RANDOM
        return super().simplified().replaced({"itop_bernoulli": bernoulli})


class Itop(AfterStep[ItopHparams]):
    """Drop by magnitude; grow by gradient, at random, or at random where the mask has never been."""

    def __init__(self, training: Training, hparams: ItopHparams) -> None:
        super().__init__(training, hparams)
        self._fired = self.kept("fired")
        self.needs_gradients = hparams.itop_growth == GRADIENT

    def prepare(self) -> None:
        """Draw the mask to start from, if there is no other."""
        super().prepare()
        assert self.training.mask is not None
        self._fired |= {name: kept.clone() for name, kept in self.training.mask.items()}

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return gradients or U(0, 1); with random_unfired, 1 more for weights that were never kept."""
        if self.hparams.itop_growth == GRADIENT:
            return super().growth(step, weights)
        drawn = self.uniforms(step, weights)
        if self.hparams.itop_growth == RANDOM:
            return drawn
        return {name: uniform + ~self._fired[name].cpu() for name, uniform in drawn.items()}

    def grow(self, step: Step, stays: Mask, growth: Mapping[str, Tensor], counts: Mapping[str, int]) -> Mask:
        """Return the mask with new weights."""
        if not (self.hparams.itop_bernoulli and self.hparams.itop_growth == RANDOM):
            return super().grow(step, stays, growth, counts)
        more = {}
        for name, count in counts.items():
            pruned = ~stays[name]
            more[name] = stays[name] | (pruned & (growth[name] < count / max(1, int(pruned.sum()))))
        return stays.with_tensors({**stays, **more})

    def update(self, step: Step, clock: Step) -> None:
        """Drop and grow, and note the weights that are now kept."""
        super().update(step, clock)
        assert self.training.mask is not None
        for name, kept in self.training.mask.items():
            self._fired[name] |= kept.to(self._fired[name].device)

    def metrics(self) -> Mapping[str, float]:
        """Return the exploration rate R_s: the share of the weights that the mask has kept at any time so far."""
        sizes = [(int(fired.sum()), fired.numel()) for fired in self._fired.values()]
        return {"exploration_rate": sum(kept for kept, _ in sizes) / max(1, sum(total for _, total in sizes))}


ITOP = Technique(
    spelling="itop",
    known_as=("rigl_itop", "set_itop", "dst"),
    summary="RigL or SET with long intervals and updates until the end; reports the share of weights tried",
    paper="Liu et al. 2021, Do We Actually Need Dense Over-Parameterization? In-Time Over-Parameterization",
    tested_against="Shiweiliuiiiiiii/In-Time-Over-Parameterization",
    differences="The start mask has the exact density, where the code draws each weight by itself. Random growth is "
    "exact too; itop_bernoulli is the code's. The code's own intervals on CIFAR are 4000 steps with gradients and 1500 "
    "at random.",
    hparams=ItopHparams,
    hooks=Itop,
    density="start_density",
    changes_mask=True,
    takes_shards=True,
)
