"""RigL (Evci et al. 2020, Rigging the Lottery): weights grow where the gradient of the present batch is largest.

At an update the mask changes in place of the optimizer's step. That takes an iteration, as in rigl-torch, or none
(mask_update_clock), as in google-research/rigl.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from foundations.description.step import Step
from training.technique import Technique
from training.techniques.drop_and_grow import BATCHES, DropAndGrow, DropAndGrowHparams

if TYPE_CHECKING:
    from torch import Tensor, nn


class Rigl(DropAndGrow):
    """Drop by magnitude, grow by gradient."""

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return |dL/dw| of every weight, pruned ones included, where L is the loss without weight decay."""
        # A NaN gradient must not end a training that would continue without RigL.
        from pruning.weights.shards import whole

        return {name: whole(w.grad).abs().nan_to_num(nan=0.0) for name, w in weights.items() if w.grad is not None}

    def clock(self, step: Step) -> Step | None:
        """Return the clock's step at the update of an iteration; None if the mask is not updated."""
        updates = self.updates
        if self.hparams.mask_update_clock == BATCHES:
            return step if updates.has(step) else None
        if step < updates.begin:
            return None
        done, rest = divmod(updates.since_begin(step), updates.frequency.iteration + 1)
        shown = step.at(step.iteration - done)
        return shown if rest == 0 and shown <= updates.end else None

    def skipped_before(self, step: Step) -> int:
        """Return the number of updates before a step, if the learning rate follows the optimizer's steps."""
        if self.hparams.mask_update_clock == BATCHES or step <= self.updates.begin:
            return 0
        begun = (self.updates.since_begin(step) - 1) // (self.updates.frequency.iteration + 1) + 1
        return min(begun, self.updates.length // self.updates.frequency.iteration + 1)

    def after_backward(self, step: Step) -> bool:
        """Update the mask in place of the optimizer's step."""
        clock = self.clock(step)
        if clock is None:
            return False
        self.update(step, clock)
        return True

    def after_step(self, step: Step) -> None:
        """Move the raw weights if the optimizer has stepped."""
        if self.clock(step) is None:
            self.move_raw_weights()


RIGL = Technique(
    spelling="rigl",
    summary="drop the smallest weights, grow where the gradient is largest",
    paper="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners",
    differences=(
        "Steps count batches from 0, rigl-torch's from 1; --mask_update_clock=optimizer_steps counts as "
        "google-research/rigl does."
    ),
    hparams=DropAndGrowHparams,
    hooks=Rigl,
    density="start_density",
    changes_mask=True,
    takes_shards=True,
    version=2,
)
