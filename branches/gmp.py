"""Gradual magnitude pruning: the mask shrinks while the network trains (Zhu & Gupta 2017, To prune, or not to prune).

From step t0 to t1, every dt iterations, the weights that are left are scored and pruned to the sparsity

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))^3

with s_i = 0 and s_f the level asked for. Where it starts from a mask, nothing goes until the curve has passed that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from branches.desc import BranchDesc
from branches.oneshot import BranchJob
from foundations.errors import UsageError
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.run import Run
from foundations.step import Step
from platforms.base import Platform
from training.context import Context

if TYPE_CHECKING:
    from torch import nn

    from pruning.mask import Mask
    from training.session import Shrink


@dataclass(frozen=True, kw_only=True)
class GradualHparams(Hparams):
    """When the mask shrinks."""

    gmp_begin: str = hparam("0it", step=True, elided=ALWAYS_WRITTEN)
    """The step of the first pruning."""
    gmp_end: str | None = hparam(None, step=True, elided=ALWAYS_WRITTEN)
    """The step of the last pruning, at which the level is reached; by default half of the training."""
    gmp_frequency: str = hparam("1ep", step=True, elided=ALWAYS_WRITTEN)
    """The time between prunings."""


@dataclass(frozen=True, kw_only=True)
class GmpDesc(BranchDesc):
    """Train a state of a run, pruning gradually."""

    kind: ClassVar[str] = "gmp"

    gradual: GradualHparams

    def __post_init__(self) -> None:
        end = self.gradual.gmp_end or f"{self.training.end.iteration // 2}it"
        object.__setattr__(self, "gradual", replace(self.gradual, gmp_end=end))
        super().__post_init__()

    @property
    def scores_a_state(self) -> bool:
        """Tell that only weights in training are scored."""
        return False

    def validate(self) -> None:
        """Check that pruning begins before it ends, within the training."""
        super().validate()
        if self.pruning.method.is_constructive:
            raise UsageError(f"{self.pruning.strategy} builds its mask at once; gmp needs scores.", "strategy")
        begin, end, frequency = self.pruning_steps
        if frequency.iteration == 0:
            raise UsageError("it must be above 0it.", "gmp_frequency")
        if not begin <= end <= self.training.end:
            raise UsageError(
                f"{begin} to {end} is not within the training. Possible: begin <= end <= {self.training.end}.",
                "gmp_begin",
                "gmp_end",
            )

    @property
    def pruning_steps(self) -> tuple[Step, Step, Step]:
        """The first and the last pruning, and the time between them."""
        step = self.training.step
        return (
            step(self.gradual.gmp_begin, "gmp_begin"),
            step(self.gradual.gmp_end or "", "gmp_end"),
            step(self.gradual.gmp_frequency, "gmp_frequency"),
        )

    def prunes_at(self, step: Step) -> bool:
        """Tell whether a step begins with a pruning: every `gmp_frequency` from the first, and at the last."""
        begin, end, frequency = self.pruning_steps
        since = step.iteration - begin.iteration
        return begin <= step <= end and (since % frequency.iteration == 0 or step == end)

    def level_at(self, step: Step) -> float:
        """Return the prune fraction at a step, from 0 at the first pruning to the level asked for at the last."""
        begin, end, _ = self.pruning_steps
        if step >= end:
            return self.pruning.level()
        share = max(0, step.iteration - begin.iteration) / (end.iteration - begin.iteration)
        return self.pruning.level() * (1 - (1 - share) ** 3)


@dataclass(frozen=True)
class GmpJob(BranchJob):
    """Train a state of a run, pruning gradually."""

    desc: GmpDesc

    def first_mask(self, run: Run, context: Context, platform: Platform) -> Mask:
        """Return the mask to begin with: the parent's where it has one, else of ones."""
        return self.inherited_mask(context)

    def shrink(self, context: Context, platform: Platform) -> Shrink:
        """Prune what is left at the steps of the schedule."""
        from pruning.level import kept_of

        def shrunk(step: Step, model: nn.Module, mask: Mask | None) -> Mask | None:
            if mask is None or not self.desc.prunes_at(step):
                return mask
            level = self.desc.level_at(step)
            if kept_of(mask.total, level) >= mask.kept:
                return mask
            return self.prune_to(level, model, mask, context, platform)

        return shrunk

    def conclude(self, run: Run, mask: Mask | None) -> None:
        """Keep the mask that the training ended with, and its report."""
        if mask is not None:
            self.keep_mask(run, mask, self.desc.pruning.level())
