"""`transplant`: train a run's weights with the mask of another run."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named.branch import Branch, state_of
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class TransplantFlags(Hparams):
    """The run that gives the mask, and the parent's weights."""

    mask_of: RunRef | None = hparam(None)
    """The run whose mask is taken: the address of a branch or of an imported run with a mask."""
    state_step: str | None = hparam(None, step=True)
    """The step of the weights that are trained; by default the parent's first."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin."""


def transplant(parent: RunRef, _pruning: PruningHparams, flags: TransplantFlags) -> BranchDesc:
    """Train the parent's weights with the mask of another run."""
    mask = None if flags.mask_of is None else mask_of(flags.mask_of)
    if mask is None:
        raise UsageError("it takes the address of a run that has a mask; `ls` lists the runs.", "mask_of")
    return BranchDesc(
        main=main_of(parent),
        mask=mask,
        state=state_of(parent, flags.state_step),
        branch=BranchHparams(start_step=flags.start_step),
    )


TRANSPLANT = Branch(spelling="transplant", describe=transplant, flags=TransplantFlags, prunes=False)
