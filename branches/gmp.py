"""`gmp`, gradual magnitude pruning: prune while the network trains (Zhu & Gupta 2017, To prune, or not to prune).

From step t0 to t1, every dt iterations, the weights that are left are scored and pruned to the sparsity

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (t1 - t0))^3

with s_i = 0 and s_f the level asked for. Where it starts from a mask, nothing is pruned until the curve is past that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named_branch import Branch, SeedFlags
from foundations.desc import RunKind, RunRef, StateOf
from foundations.errors import UsageError
from foundations.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.step import Step
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class GradualHparams(Hparams):
    """When the network is pruned."""

    gmp_begin: str = hparam("0it", step=True, elided=ALWAYS_WRITTEN)
    """The step of the first pruning."""
    gmp_end: str | None = hparam(None, step=True, elided=ALWAYS_WRITTEN)
    """The step of the last pruning, at which the level is reached; by default half of the training."""
    gmp_frequency: str = hparam("1ep", step=True, elided=ALWAYS_WRITTEN)
    """The time between prunings."""


@dataclass(frozen=True, kw_only=True)
class GmpFlags(GradualHparams, SeedFlags):
    """When the network is pruned, and what is random in it."""


@dataclass(frozen=True, kw_only=True)
class GmpDesc(BranchDesc):
    """Train a state of a run, pruning gradually."""

    kind: ClassVar[str] = "gmp"
    job: ClassVar[str] = "branches.gmp_job:GmpJob"

    gradual: GradualHparams

    def __post_init__(self) -> None:
        end = self.gradual.gmp_end or f"{self.as_trained.end.iteration // 2}it"
        object.__setattr__(self, "gradual", replace(self.gradual, gmp_end=end))
        super().__post_init__()

    @property
    def mask_step(self) -> Step | None:
        """The last step: the mask that the training ended with is kept."""
        return self.end

    def validate(self) -> None:
        """Check that pruning begins before it ends, within the training."""
        super().validate()
        if self.pruning is not None and self.pruning.method.is_constructive:
            raise UsageError(f"{self.pruning.strategy} builds its mask at once; gmp needs scores.", "strategy")
        begin, end, frequency = self.pruning_steps
        if frequency.iteration == 0:
            raise UsageError("it must be above 0it.", "gmp_frequency")
        if not begin <= end <= self.end:
            raise UsageError(
                f"{begin} to {end} is not within the training; choose begin <= end <= {self.end}.",
                "gmp_begin",
                "gmp_end",
            )

    @property
    def pruning_steps(self) -> tuple[Step, Step, Step]:
        """The first and the last pruning, and the time between them."""
        step = self.as_trained.step
        return (
            step(self.gradual.gmp_begin, "gmp_begin"),
            step(self.gradual.gmp_end or "", "gmp_end"),
            step(self.gradual.gmp_frequency, "gmp_frequency"),
        )

    def prunes_at(self, step: Step) -> bool:
        """Return whether a step begins with a pruning: every `gmp_frequency` from the first, and at the last."""
        begin, end, frequency = self.pruning_steps
        since = step.iteration - begin.iteration
        return begin <= step <= end and (since % frequency.iteration == 0 or step == end)

    def level_at(self, step: Step) -> float:
        """Return the prune fraction at a step, from 0 at the first pruning to the level asked for at the last."""
        begin, end, _ = self.pruning_steps
        level = 0.0 if self.pruning is None else self.pruning.level
        if step >= end:
            return level
        share = max(0, step.iteration - begin.iteration) / (end.iteration - begin.iteration)
        return level * (1 - (1 - share) ** 3)


def gmp(parent: RunRef, pruning: PruningHparams, flags: GmpFlags) -> GmpDesc:
    """Prune gradually while training, along a cubic curve (Zhu & Gupta 2017)."""
    return GmpDesc(
        main=main_of(parent),
        pruning=pruning,
        mask=mask_of(parent),
        state=StateOf(parent, parent.desc.start),
        branch=BranchHparams(seed=flags.seed),
        gradual=GradualHparams.of(flags.values()),
    )


GMP = Branch(spelling="gmp", describe=gmp, flags=GmpFlags)
GMP_RUN = RunKind(spelling="gmp", desc=GmpDesc)
