"""`retrain` of a level of a lottery: `branches.named.retrain`, with the level as parent."""

from __future__ import annotations

from branches.desc import BranchDesc
from branches.lottery.lottery import LevelBranch, Lottery
from branches.named.retrain import RetrainFlags, retrain
from foundations.description.desc import RunRef


def retrain_level(lottery: Lottery, level: RunRef, flags: RetrainFlags) -> BranchDesc:
    """Train a level's first weights and mask with other hyperparameters (OpenLTH's retrain)."""
    return retrain(level, lottery.pruning, flags)


RETRAIN_LEVEL = LevelBranch(spelling="retrain", describe=retrain_level, flags=RetrainFlags)
