"""The gradients of small weights are zero, so that pruned weights stay pruned: the training step of ToST's lottery.

The published code (`LTH/main.py`) zeroes the gradient of every weight below 1e-6. It takes no absolute value, so the
gradient of every negative weight is zero: `freeze_negative`. Weight decay and momentum still move these weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundations.description.hparams import hparam
from foundations.description.step import Step
from training.technique import Hooks, Technique, TechniqueHparams

_NAME = "weight"
"""Last part of the tensors' names; the scales of batch normalization have it too."""


@dataclass(frozen=True, kw_only=True)
class FreezeSmallHparams(TechniqueHparams):
    """The weights that get no gradient."""

    freeze_below: float = hparam(1e-6, above=0)
    """Zero the gradient of every weight whose absolute value is below this: of all tensors called weight."""
    freeze_negative: bool = hparam(False)
    """Compare the weight itself, so that no negative weight gets a gradient: as in ToST's published lottery."""


class FreezeSmall(Hooks[FreezeSmallHparams]):
    """Zero gradients before each step of the optimizer."""

    def after_backward(self, step: Step) -> bool:
        """Zero the gradients of small weights."""
        for name, weight in self.training.model.named_parameters():
            if weight.grad is not None and name.rpartition(".")[2] == _NAME:
                size = weight.detach() if self.hparams.freeze_negative else weight.detach().abs()
                weight.grad.masked_fill_(size < self.hparams.freeze_below, 0.0)
        return False


FREEZE_SMALL = Technique(
    spelling="freeze_small",
    summary="no gradients for weights that are zero, or with an option for negative ones",
    paper="Jaiswal et al. 2022 (ToST): its lottery",
    differences="ToST's code also freezes every negative weight, by mistake; --freeze_negative does.",
    hparams=FreezeSmallHparams,
    hooks=FreezeSmall,
    takes_shards=True,
)
