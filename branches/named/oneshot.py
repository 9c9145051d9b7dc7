"""`oneshot`: score weights, prune once, train. All other branches that prune once set some of its flags."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named.branch import Branch
from foundations.description.desc import RunRef, StateOf
from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class OneshotFlags(BranchHparams):
    """The scored weights, the starting mask, the trained weights, and their changes."""

    prune_experiment: RunRef | None = hparam(None)
    """The run whose weights are scored: main, or the address or the command of any run (the parent if not given)."""
    prune_step: str = hparam("0it", step=True)
    """The step of the weights that are scored; the parent's last for pruning after training. best is the step where the
    headline metric on held out examples was best, of a run that is complete."""
    mask_experiment: RunRef | None = hparam(None)
    """The run whose mask is pruned further (that of --prune_experiment if not given; main for no mask)."""
    state_experiment: RunRef | None = hparam(None)
    """The run whose weights are trained: main, or the address or the command of any run (the parent if not given)."""
    state_step: str = hparam("0it", step=True)
    """The step of the weights that are trained: 0ep for the initialization, later for rewinding;
    best as above."""


def oneshot(parent: RunRef, pruning: PruningHparams, flags: OneshotFlags) -> BranchDesc:
    """Score weights, prune once, train: everything as the flags say."""
    weights = pruning.replaces_weights
    if weights is not None and (flags.state_experiment not in (None, parent) or not _is_first(flags.state_step)):
        raise UsageError(
            "it trains from the weights that the method draws, so no other state can be given.",
            weights,
            "state_experiment" if flags.state_experiment is not None else "state_step",
        )
    scored = StateOf.at(flags.prune_experiment or parent, flags.prune_step, "prune_step")
    return BranchDesc(
        main=main_of(parent),
        pruning=pruning,
        scored=scored,
        mask=mask_of(flags.mask_experiment or scored.run),
        state=None
        if flags.reinitialize or weights is not None
        else StateOf.at(flags.state_experiment or parent, flags.state_step, "state_step"),
        branch=BranchHparams.of(flags.values()),
    )


def _is_first(step: str) -> bool:
    """Return whether a step is the default, written in any way."""
    return Step.parse(step, 1, "state_step").iteration == 0


ONESHOT = Branch(spelling="oneshot", describe=oneshot, flags=OneshotFlags)
