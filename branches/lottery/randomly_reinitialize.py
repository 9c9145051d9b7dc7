"""`randomly_reinitialize`: train the mask of a level from a new initialization (OpenLTH's randomly_reinitialize)."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, mask_of
from branches.lottery.lottery import LevelBranch, Lottery
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams, hparam


@dataclass(frozen=True, kw_only=True)
class RandomlyReinitializeFlags(Hparams):
    """Training of a level's mask from new weights."""

    start_at_step_zero: bool = hparam(False)
    """Train the whole schedule, not only from the rewinding step on."""
    branch_seed: int | None = hparam(None)
    """Pins the new initialization; by default --seed does, or each replicate has its own."""


def randomly_reinitialize(lottery: Lottery, level: RunRef, flags: RandomlyReinitializeFlags) -> BranchDesc:
    """Train a level's mask from a new initialization (OpenLTH's randomly_reinitialize)."""
    return BranchDesc(
        main=lottery.main,
        mask=mask_of(level),
        techniques=lottery.main.techniques,
        branch=BranchHparams(
            start_step="0it" if flags.start_at_step_zero else lottery.branch.start_step,
            reinitialize=True,
            seed=lottery.hparams.seed if flags.branch_seed is None else flags.branch_seed,
        ),
    )


RANDOMLY_REINITIALIZE = LevelBranch(
    spelling="randomly_reinitialize", describe=randomly_reinitialize, flags=RandomlyReinitializeFlags
)
