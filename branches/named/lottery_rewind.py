"""`lottery_rewind`: prune trained weights and rewind them (Frankle & Carbin 2019; Frankle et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams
from branches.named.branch import Branch, SeedFlags, branch_of, last_state, main_run
from foundations.description.desc import RunRef, StateOf
from foundations.description.hparams import hparam
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class RewindFlags(SeedFlags):
    """Steps to which the branch rewinds."""

    rewind_step: str = hparam("0it", step=True)
    """The step to rewind to."""
    start_step: str | None = hparam(None, step=True)
    """The step at which schedule and data order resume, where that is not --rewind_step; 0it for the whole schedule."""

    @property
    def branch(self) -> BranchHparams:
        """The hyperparameters of the branch."""
        return BranchHparams(start_step=self.start_step or self.rewind_step, seed=self.seed)


def lottery_rewind(parent: RunRef, pruning: PruningHparams, flags: RewindFlags) -> BranchDesc:
    """Prune the last weights, rewind weights and schedule to a step of main (Frankle et al. 2019, 2020)."""
    rewound = StateOf.at(main_run(parent), flags.rewind_step, "rewind_step")
    return branch_of(parent, pruning, last_state(parent), rewound, flags.branch)


LOTTERY_REWIND = Branch(spelling="lottery_rewind", describe=lottery_rewind, flags=RewindFlags)
