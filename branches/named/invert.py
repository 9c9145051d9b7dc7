"""`invert`: prune the other end of the scores (Frankle et al. 2021)."""

from __future__ import annotations

from dataclasses import replace

from branches.desc import BranchDesc
from branches.named.branch import Branch
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import RunRef
from pruning.hparams import PruningHparams


def invert(parent: RunRef, pruning: PruningHparams, flags: OneshotFlags) -> BranchDesc:
    """Prune the other end of the scores: the weights that the method would keep are pruned."""
    is_highest = pruning.prune_direction == "highest"
    return oneshot(parent, replace(pruning, prune_highest=not is_highest, prune_lowest=is_highest), flags)


INVERT = Branch(spelling="invert", describe=invert, flags=OneshotFlags)
