"""RigL (Evci et al. 2020, Rigging the Lottery): weights grow where the gradient of the present batch is largest.

At an update the mask changes in place of the optimizer's step, as in google-research/rigl.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from foundations.step import Step
from training.technique import Technique
from training.techniques.drop_and_grow import DropAndGrow, DropAndGrowHparams

if TYPE_CHECKING:
    from torch import Tensor, nn


class Rigl(DropAndGrow):
    """Drop by magnitude, grow by gradient."""

    def growth(self, step: Step, weights: Mapping[str, nn.Parameter]) -> Mapping[str, Tensor]:
        """Return |dL/dw| of every weight, pruned ones included, where L has the L2 penalty of the optimizer."""
        decay = self._weight_decay()
        scores = {}
        for name, weight in weights.items():
            assert weight.grad is not None, "every prunable weight is trained"
            # A gradient that is not a number must not end a training that goes on without RigL.
            scores[name] = (weight.grad + decay * weight.detach()).abs().nan_to_num(nan=0.0)
        return scores

    def after_backward(self, step: Step) -> bool:
        """Update the mask in place of the optimizer's step."""
        if not self.updates.has(step):
            return False
        self.update(step)
        return True

    def _weight_decay(self) -> float:
        training = self.training.desc.training
        return 0.0 if training.optimizer_name == "adamw" else training.weight_decay  # adamw's is no part of the loss


RIGL = Technique(
    spelling="rigl",
    summary="drop the smallest weights, grow where the gradient is largest",
    paper="Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners",
    hparams=DropAndGrowHparams,
    hooks=Rigl,
    changes_mask=True,
)
