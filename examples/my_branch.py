"""`randomize_globally`: a branch, as a plug-in. It tests whether the layers of the kept weights matter."""

from __future__ import annotations

from dataclasses import replace

from open_prune import Branch, BranchDesc, OneshotFlags, PruningHparams, RunRef, oneshot


def randomize_globally(parent: RunRef, pruning: PruningHparams, flags: OneshotFlags) -> BranchDesc:
    """Permute the mask over all layers together: as many weights, at random places in all layers."""
    return oneshot(parent, pruning, replace(flags, randomize_globally=True))


RANDOMIZE_GLOBALLY = Branch(spelling="randomize_globally", describe=randomize_globally, flags=OneshotFlags)
