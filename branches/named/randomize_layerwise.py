"""`randomize_layerwise`: permute the mask within each layer (Frankle et al. 2021)."""

from __future__ import annotations

from dataclasses import replace

from branches.desc import BranchDesc
from branches.named.branch import Branch
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import RunRef
from pruning.hparams import PruningHparams


def randomize_layerwise(parent: RunRef, pruning: PruningHparams, flags: OneshotFlags) -> BranchDesc:
    """Permute the mask within each layer: the control of Frankle et al. 2021."""
    return oneshot(parent, pruning, replace(flags, randomize_layerwise=True))


RANDOMIZE_LAYERWISE = Branch(spelling="randomize_layerwise", describe=randomize_layerwise, flags=OneshotFlags)
