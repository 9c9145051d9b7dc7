"""`random_tickets`: keep as many weights of each layer as a strategy would, at random places (Su et al. 2020)."""

from __future__ import annotations

from dataclasses import replace

from branches.desc import BranchDesc
from branches.named.branch import Branch
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import RunRef
from pruning.hparams import PruningHparams


def random_tickets(parent: RunRef, pruning: PruningHparams, flags: OneshotFlags) -> BranchDesc:
    """Keep as many weights of each layer as a strategy would, at random places (Su et al. 2020)."""
    return oneshot(parent, pruning, replace(flags, randomize_layerwise=True))


RANDOM_TICKETS = Branch(spelling="random_tickets", describe=random_tickets, flags=OneshotFlags)
