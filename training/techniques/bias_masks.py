"""The biases of units without incoming weights are zero, as in PHEW's masks (Patil & Dovrolis 2021).

Otherwise such a unit would output a trained constant. The masks of the biases follow from the mask of the weights and
change with it. They are not counted as weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pruning.masks.mask import Mask


@dataclass(frozen=True, kw_only=True)
class BiasMasksHparams(TechniqueHparams):
    """Nothing to choose: the mask of the weights says which biases are pruned."""

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return these. Raises: UsageError if there is no mask that could leave units without weights."""
        if not has_mask:
            raise UsageError(
                "bias_masks needs a mask of weights; prune, or name a technique before it that does.", "technique"
            )
        return self


class BiasMasks(Hooks[BiasMasksHparams]):
    """Set the biases to zero before each step and at the last one."""

    _of: Mask | None = None
    _pruned: Sequence[tuple[Tensor, Tensor]] = ()
    """Biases, each with its entries to set to zero, on its device."""

    def prepare(self) -> None:
        """Set the biases to zero in the first state."""
        self._zero()

    def before_step(self, step: Step) -> None:
        """Set the biases of units that keep no weight to zero."""
        self._zero()

    def _zero(self) -> None:
        mask = self.training.mask
        if mask is None:
            return
        import torch

        from pruning.weights.shards import local

        if mask is not self._of:
            self._of, self._pruned = mask, _pruned(self.training.model, mask)
        with torch.no_grad():
            for bias, pruned in self._pruned:
                local(bias).masked_fill_(pruned, 0)


def _pruned(model: nn.Module, mask: Mask) -> list[tuple[Tensor, Tensor]]:
    """Return the biases of the layers that a mask covers, each with the entries of units that keep no weight, bool."""
    from pruning.masks.bias_masks import bias_masks
    from pruning.weights.shards import part_of

    biases = [(model.get_parameter(name), kept) for name, kept in bias_masks(model, mask).items()]
    return [(bias, ~part_of(kept, bias)) for bias, kept in biases]


BIAS_MASKS = Technique(
    spelling="bias_masks",
    summary="no biases for units that keep no weight",
    paper="Patil & Dovrolis 2021, PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well",
    differences="As PHEW's code does after each of its experiments with walks; here it is a choice.",
    hparams=BiasMasksHparams,
    hooks=BiasMasks,
    takes_shards=True,
)
