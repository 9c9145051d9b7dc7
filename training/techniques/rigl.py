"""RigL (Evci et al. 2020, Rigging the Lottery): weights grow where the gradient of the present batch is largest.

At an update the mask changes in place of the optimizer's step. That takes an iteration, as in rigl-torch, or none
(mask_update_clock), as in google-research/rigl.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Technique
from training.techniques.drop_and_grow import OPTIMIZER_STEPS, DropAndGrow, DropAndGrowHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from training.technique import Training


@dataclass(frozen=True, kw_only=True)
class RiglHparams(DropAndGrowHparams):
    """The mask's updates: their steps, sizes and scores, and the mask at the start of a training that has none."""

    grad_accumulation_n: int = hparam(1, at_least=1)
    """The number of batches whose gradients are averaged for the growth score, that of the update included."""

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return these. Raises: UsageError as for other techniques, or for more batches than lie between updates."""
        resolved = super().for_training(end, has_mask=has_mask)
        most = resolved.updates(end).frequency.iteration
        if self.grad_accumulation_n > most:
            reason = f"the mask is updated every {most} batches; average at most as many."
            raise UsageError(reason, "grad_accumulation_n", "mask_update_frequency")
        return resolved


R = TypeVar("R", bound=RiglHparams)


class Rigl(DropAndGrow[R]):
    """Drop by magnitude, grow by gradient."""

    def __init__(self, training: Training, hparams: R) -> None:
        super().__init__(training, hparams)
        self._sums = self.kept("gradients")

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return the magnitude of the gradient of every weight, of this batch or averaged over the last ones."""
        if self.hparams.grad_accumulation_n == 1:
            return self.gradients(weights)
        return {name: self._sums[name].abs().nan_to_num(nan=0.0) for name in weights if name in self._sums}

    def _sum_gradients(self, step: Step) -> None:
        """Add this batch's gradients, if an update is as near as the batches whose gradients are averaged."""
        from pruning.weights.shards import whole

        if all(self.clock(step.at(step.iteration + n)) is None for n in range(self.hparams.grad_accumulation_n)):
            return
        for name, weight in self._weights.items():
            if weight.grad is not None:
                gradient = whole(weight.grad)
                self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.clone()

    def clock_of_optimizer(self, step: Step) -> Step | None:
        """Return the number of the optimizer's steps at the update of an iteration; None if there is none."""
        updates = self.updates
        if step < updates.begin:
            return None
        done, rest = divmod(updates.since_begin(step), updates.frequency.iteration + 1)
        shown = step.at(step.iteration - done)
        return shown if rest == 0 and shown <= updates.end else None

    def skipped_before(self, step: Step) -> int:
        """Return the number of updates before a step, if the learning rate follows the optimizer's steps."""
        if self.hparams.mask_update_clock != OPTIMIZER_STEPS or step <= self.updates.begin:
            return 0
        begun = (self.updates.since_begin(step) - 1) // (self.updates.frequency.iteration + 1) + 1
        return min(begun, self.updates.length // self.updates.frequency.iteration + 1)

    def after_backward(self, step: Step) -> bool:
        """Update the mask in place of the optimizer's step."""
        if self.hparams.grad_accumulation_n > 1:
            self._sum_gradients(step)
        clock = self.clock(step)
        if clock is None:
            return False
        self.update(step, clock)
        self._sums.clear()
        return True

    def after_step(self, step: Step) -> None:
        """Move the raw weights if the optimizer has stepped."""
        if self.clock(step) is None:
            self.move_raw_weights()


RIGL = Technique(
    spelling="rigl",
    known_as=("rigged_lottery", "gradient_growth"),
    summary="drop the smallest weights, grow where the gradient is largest",
    paper="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners",
    hparams=RiglHparams,
    tested_against="nollied/rigl-torch",
    differences=(
        "Steps count batches from 0; --mask_update_clock=batches_from_1 counts as rigl-torch does, optimizer_steps as "
        "google-research/rigl. Ties between magnitudes are broken in a fixed order; the latter adds noise of 1e-5."
    ),
    hooks=Rigl,
    density="start_density",
    changes_mask=True,
    takes_shards=True,
    version=2,
)
