"""`reinitialize`: train the mask from a new initialization (Frankle & Carbin 2019)."""

from __future__ import annotations

from dataclasses import replace

from branches.desc import BranchDesc
from branches.named.branch import Branch
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import RunRef
from pruning.hparams import PruningHparams


def reinitialize(parent: RunRef, pruning: PruningHparams, flags: OneshotFlags) -> BranchDesc:
    """Train the mask from a new initialization: the control of Frankle & Carbin 2019."""
    return oneshot(parent, pruning, replace(flags, reinitialize=True))


REINITIALIZE = Branch(spelling="reinitialize", describe=reinitialize, flags=OneshotFlags)
