"""Shared code of techniques that move the mask after optimizer steps: ITOP, GraNet, sparse momentum.

As in the published code of these, whose `sparselearning/core.py` has a common origin. With t the number of steps of the
optimizer so far and T that of the whole training:

    when     after step t, if t is a multiple of the frequency; at the end of the training too
    rate     f = f_end + (f_0 - f_end) (1 + cos(pi t / T)) / 2
    drop     in each layer, of n kept weights, the ceil(f n) of smallest magnitude
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Training
from training.techniques.moving_mask import MovingMask, StartHparams, dropped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask


@dataclass(frozen=True, kw_only=True)
class AfterStepHparams(StartHparams):
    """The mask's updates after steps of the optimizer, and the mask at the start of a training that has none."""

    drop_fraction: float = hparam(0.5, above=0, at_most=1)
    """The fraction of each layer's kept weights that an update drops, at the start of the training."""
    drop_fraction_end: float = hparam(0.005, at_least=0, at_most=1)
    """That fraction at the end of the training; in between it follows a cosine."""
    mask_update_frequency: str = hparam("100it", step=True)
    """The number of the optimizer's steps between updates of the mask."""

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return these. Raises: UsageError if the mask would never be updated."""
        resolved = super().for_training(end, has_mask=has_mask)
        if not 0 < resolved.frequency(end) <= end.iteration:
            reason = f"no update of the mask is within the training; choose a step from 1it to {end}."
            raise UsageError(reason, "mask_update_frequency")
        return resolved

    def frequency(self, any_step: Step) -> int:
        """Return the number of steps between updates. any_step: a step of the training."""
        return Step.parse(self.mask_update_frequency, any_step.iterations_per_epoch, "mask_update_frequency").iteration

    def fraction_at(self, step: Step, end: Step) -> float:
        """Return the fraction f that is dropped after as many optimizer steps as precede `step`."""
        done = (1 + math.cos(math.pi * step.iteration / end.iteration)) / 2
        return self.drop_fraction_end + (self.drop_fraction - self.drop_fraction_end) * done


S = TypeVar("S", bound=StartHparams)
A = TypeVar("A", bound=AfterStepHparams)


class UpdatedAfterStep(MovingMask[S]):
    """A training whose mask moves after some of the optimizer's steps, which `clock` names."""

    needs_gradients = True
    """Whether updates use the gradients of the batch before them, `_gradients`."""

    def __init__(self, training: Training, hparams: S) -> None:
        super().__init__(training, hparams)
        self._gradients: Mapping[str, Tensor] = {}

    def after_backward(self, step: Step) -> bool:
        """Keep the gradients if the mask is updated after this step: the optimizer may change them in place."""
        if self.needs_gradients and self.clock(step) is not None:
            self._gradients = self.gradients(self._weights)
        return False

    def after_step(self, step: Step) -> None:
        """Update the mask."""
        clock = self.clock(step)
        if clock is not None:
            self.update(step, clock)
            self._gradients = {}


class AfterStep(UpdatedAfterStep[A]):
    """A training whose mask moves every few steps of the optimizer, up to the end."""

    def __init__(self, training: Training, hparams: A) -> None:
        super().__init__(training, hparams)
        self._frequency = hparams.frequency(training.end)

    def clock(self, step: Step) -> Step | None:
        """Return the step after this one, if the mask is updated between them."""
        after = step.at(step.iteration + 1)
        return after if after.iteration % self._frequency == 0 else None

    def drop(self, mask: Mask, weights: Mapping[str, nn.Parameter], clock: Step) -> Mask:
        """Return the mask without the ceil(f n) smallest weights of each layer, and those equal to the last of them.

        So weights that grew at an earlier update and are still exactly 0 go as well.
        """
        kept, fraction = mask.kept_per_layer(), self.hparams.fraction_at(clock, self.training.end)
        return dropped(mask, weights, {name: math.ceil(fraction * kept[name]) for name in weights}, ties="pruned")

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return the magnitude of the gradient of the batch whose step was just taken, at the weights before it."""
        return {name: self._gradients[name] for name in weights if name in self._gradients}
