"""`gmp`: train a state of a run and prune it gradually (`training.techniques.gmp`)."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named.branch import Branch, SeedFlags, state_of
from foundations.description.desc import RunRef
from foundations.description.hparams import hparam
from pruning.hparams import PruningHparams
from training.hparams import TechniquesHparams
from training.techniques.gmp import PREFIX, GmpSchedule, refuse_structure


@dataclass(frozen=True, kw_only=True)
class GmpFlags(GmpSchedule, SeedFlags):
    """The schedule of pruning, the trained weights, and the starting mask."""

    state_experiment: RunRef | None = hparam(None)
    """The run whose weights are trained: main, or the address of any run (the parent if not given)."""
    state_step: str | None = hparam(None, step=True)
    """The step of the weights that are trained; by default that run's first."""
    mask_experiment: RunRef | None = hparam(None)
    """The run whose mask is pruned further (that of --state_experiment if not given)."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin."""


def gmp(parent: RunRef, pruning: PruningHparams, flags: GmpFlags) -> BranchDesc:
    """Prune gradually while training, along a cubic curve (Zhu & Gupta 2017)."""
    run = flags.state_experiment or parent
    technique = {PREFIX + name: value for name, value in pruning.values().items()}
    technique |= {name: value for name, value in flags.values().items() if name in GmpSchedule.names()}
    refuse_structure(pruning, "structure")
    return BranchDesc(
        main=main_of(parent),
        mask=mask_of(flags.mask_experiment or run),
        state=state_of(run, flags.state_step),
        branch=BranchHparams(start_step=flags.start_step),
        techniques=TechniquesHparams.of({"technique": "gmp", "technique_seed": flags.seed, **technique}),
    )


GMP = Branch(spelling="gmp", describe=gmp, flags=GmpFlags)
