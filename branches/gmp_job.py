"""The job of gradual pruning."""

from __future__ import annotations

from torch import nn

from branches.gmp import GmpDesc
from branches.job import BaseBranchJob
from foundations.step import Step
from pruning.level import kept_of
from pruning.mask import Mask
from training.job import InitialState, MaskUpdate


class GmpJob(BaseBranchJob[GmpDesc]):
    """Train a state of a run, pruning gradually."""

    def initial_state(self) -> InitialState:
        """Load the state, with the mask of the parent where it has one, else of ones."""
        assert self.desc.state is not None, "gmp trains a state of its parent"
        model = self.model_at(self.desc.state)
        mask = self.starting_mask(model)
        mask.apply_(model)
        return InitialState(model, mask, self.fingerprints())

    def mask_update(self) -> MaskUpdate | None:
        """Prune what is left at the steps of the schedule."""
        pruning = self.desc.pruning
        if pruning is None:
            return None

        def updated(step: Step, model: nn.Module, mask: Mask | None) -> Mask | None:
            if mask is None or not self.desc.prunes_at(step):
                return mask
            level = self.desc.level_at(step)
            if kept_of(mask.total, level) >= mask.kept:
                return mask
            return self.prune_to(level, pruning, model, mask)

        return updated

    def on_finish(self, mask: Mask | None) -> dict[str, float]:
        """Keep the mask that the training ended with, and its report."""
        if mask is not None:
            level = None if self.desc.pruning is None else self.desc.pruning.level
            self.keep_mask(mask, self.initial.model, level)
        return super().on_finish(mask)
