"""`lr_rewind`: prune trained weights and rewind the schedule alone (Renda et al. 2020)."""

from __future__ import annotations

from branches.desc import BranchDesc
from branches.named.branch import Branch, branch_of, last_state
from branches.named.lottery_rewind import RewindFlags
from foundations.description.desc import RunRef
from pruning.hparams import PruningHparams


def lr_rewind(parent: RunRef, pruning: PruningHparams, flags: RewindFlags) -> BranchDesc:
    """Prune the last weights and keep them, rewind only the schedule (Renda et al. 2020)."""
    return branch_of(parent, pruning, last_state(parent), last_state(parent), flags.branch)


LR_REWIND = Branch(spelling="lr_rewind", describe=lr_rewind, flags=RewindFlags)
