"""`randomly_reinitialize`: train the mask of a level from a new initialization (OpenLTH's randomly_reinitialize)."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, mask_of, techniques_in
from branches.named.branch import Branch, Level
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams, hparam
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class RandomlyReinitializeFlags(Hparams):
    """Training of a level's mask from new weights."""

    start_at_step_zero: bool = hparam(False)
    """Train the whole schedule, not only from the rewinding step on."""
    seed: int | None = hparam(None)
    """Pins the new initialization; by default that of the lottery does, or each replicate has its own."""


def randomly_reinitialize(parent: RunRef, _pruning: PruningHparams, flags: RandomlyReinitializeFlags) -> BranchDesc:
    """Train a level's mask from a new initialization (OpenLTH's randomly_reinitialize)."""
    level = Level.of(parent)
    start = "0it" if flags.start_at_step_zero else level.branch.start_step
    return BranchDesc(
        main=level.main,
        mask=mask_of(level),
        techniques=techniques_in(level),
        branch=BranchHparams(start_step=start, reinitialize=True, seed=flags.seed),
    )


RANDOMLY_REINITIALIZE = Branch(
    spelling="randomly_reinitialize", describe=randomly_reinitialize, flags=RandomlyReinitializeFlags, prunes=False
)
