"""The branches by name, each a thin description: what a name stands for in the hyperparameters of a branch.

A new experiment is a dataclass of its flags and a function from (parent, pruning, flags) to a description.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from branches.desc import NO_PRUNING, BranchDesc, BranchHparams
from branches.gmp import GmpDesc, GradualHparams
from branches.lineage import Parent
from datasets.hparams import DatasetHparams
from foundations.address import MAIN, Desc
from foundations.hparams import Hparams, hparam, overrides, overrides_group
from pruning.hparams import PruningHparams
from training.hparams import TrainingHparams
from training.schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class RewindHparams(Hparams):
    """Where the branch goes back to."""

    rewind_step: str = hparam("0it", step=True)
    """The step to rewind to."""
    start_step: str | None = hparam(None, step=True)
    """The step at which schedule and data order resume, where that is not --rewind_step; 0it for the whole schedule."""


@dataclass(frozen=True, kw_only=True)
class FinetuneHparams(Hparams):
    """How long the branch trains on."""

    finetune_steps: str = hparam("10ep", step=True)
    """How long to train at the last learning rate."""


@dataclass(frozen=True, kw_only=True)
class TransplantHparams(Hparams):
    """Whose mask, and which weights of the parent."""

    mask_of: str = hparam(MAIN)
    """The run whose mask is taken: its address, or as --prune_experiment names it."""
    state_step: str | None = hparam(None, step=True)
    """The step of the weights that are trained on; by default the parent's first."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin."""


RETRAIN = "retrain_"
RetrainGroup = overrides_group(
    "RetrainGroup", (DatasetHparams, TrainingHparams), RETRAIN, "Hyperparameters of the retraining that differ."
)


@dataclass(frozen=True, kw_only=True)
class RetrainHparams(RetrainGroup):  # type: ignore[misc, valid-type]
    """Hyperparameters of the retraining that differ from the parent's. Steps not given stay the parent's iterations."""

    state_step: str | None = hparam(None, step=True)
    """The step of the weights that are trained on; by default the parent's first."""
    start_step: str = hparam("0it", step=True)
    """The step at which the new schedule and data order begin."""


def oneshot(parent: Parent, pruning: PruningHparams, own: BranchHparams) -> BranchDesc:
    """Take everything as the flags say; of a parent that is a branch, its states unless they say otherwise."""
    if parent.experiment != MAIN:
        own = replace(
            own,
            prune_experiment=parent.experiment if own.prune_experiment == MAIN else own.prune_experiment,
            state_experiment=parent.experiment if own.state_experiment == MAIN else own.state_experiment,
        )
    return BranchDesc(parent=parent.trunk, pruning=pruning, branch=own)


def lottery_rewind(parent: Parent, pruning: PruningHparams, own: RewindHparams) -> BranchDesc:
    """Prune the last weights, rewind weights and schedule to a step of the trunk (Frankle et al. 2019, 2020)."""
    return _branch(
        parent,
        pruning,
        state_experiment=MAIN,
        prune_step=parent.end,
        state_step=own.rewind_step,
        start_step=own.rewind_step if own.start_step is None else own.start_step,
    )


def randomize_layerwise(parent: Parent, pruning: PruningHparams, own: BranchHparams) -> BranchDesc:
    """Permute the mask within each layer: the control of Frankle et al. 2021."""
    return oneshot(parent, pruning, replace(own, randomize_layerwise=True))


def reinitialize(parent: Parent, pruning: PruningHparams, own: BranchHparams) -> BranchDesc:
    """Train the mask on a new initialization: the control of Frankle & Carbin 2019."""
    return oneshot(parent, pruning, replace(own, reinitialize=True))


def invert(parent: Parent, pruning: PruningHparams, own: BranchHparams) -> BranchDesc:
    """Prune the other end of the scores: what the method would keep goes."""
    is_highest = pruning.prune_direction == "highest"
    return oneshot(parent, replace(pruning, prune_highest=not is_highest, prune_lowest=is_highest), own)


def lr_rewind(parent: Parent, pruning: PruningHparams, own: RewindHparams) -> BranchDesc:
    """Prune the last weights and keep them, rewind only the schedule (Renda et al. 2020)."""
    start = own.rewind_step if own.start_step is None else own.start_step
    return _branch(parent, pruning, prune_step=parent.end, state_step=parent.end, start_step=start)


def finetune(parent: Parent, pruning: PruningHparams, own: FinetuneHparams) -> BranchDesc:
    """Prune the last weights, keep them and train on at the last learning rate (Han et al. 2015)."""
    trunk = parent.trunk
    last = learning_rate(trunk.training, trunk.iterations_per_epoch)(max(0, trunk.end.iteration - 1))
    training = replace(
        trunk.training,
        lr=last,
        lr_schedule="milestones",
        milestone_steps=None,
        gamma=None,
        warmup_steps="0it",
        training_steps=own.finetune_steps,
    )
    desc = _branch(parent, pruning, prune_step=parent.end, state_step=parent.end)
    return replace(desc, retrain_training=training)


def random_tickets(parent: Parent, pruning: PruningHparams, own: BranchHparams) -> BranchDesc:
    """Keep as many weights of each layer as a strategy would, at random places (Su et al. 2020)."""
    return randomize_layerwise(parent, pruning, own)


def retrain(parent: Parent, _pruning: PruningHparams, own: RetrainHparams) -> BranchDesc:
    """Train the parent's weights and mask with other hyperparameters (OpenLTH's retrain)."""
    desc = _branch(
        parent,
        NO_PRUNING,
        state_step=parent.start if own.state_step is None else own.state_step,
        start_step="0it",
    )
    other = replace(
        desc,
        retrain_dataset=replace(parent.trunk.dataset, **overrides(own, DatasetHparams, RETRAIN)),
        retrain_training=replace(parent.trunk.training, **overrides(own, TrainingHparams, RETRAIN)),
    )
    return replace(other, branch=replace(other.branch, start_step=own.start_step))


def transplant(parent: Parent, _pruning: PruningHparams, own: TransplantHparams) -> BranchDesc:
    """Train the parent's weights with the mask of another run."""
    return _branch(
        parent,
        NO_PRUNING,
        prune_experiment=own.mask_of,
        state_step=parent.start if own.state_step is None else own.state_step,
        start_step=own.start_step,
    )


def gmp(parent: Parent, pruning: PruningHparams, own: GradualHparams) -> GmpDesc:
    """Prune gradually while training, along a cubic curve (Zhu & Gupta 2017)."""
    branch = BranchHparams(state_experiment=parent.experiment, prune_experiment=parent.experiment)
    return GmpDesc(parent=parent.trunk, pruning=pruning, branch=branch, gradual=own)


def _branch(parent: Parent, pruning: PruningHparams, **values: Any) -> BranchDesc:
    sources = {"prune_experiment": parent.experiment, "state_experiment": parent.experiment}
    return BranchDesc(parent=parent.trunk, pruning=pruning, branch=BranchHparams(**{**sources, **values}))


@dataclass(frozen=True)
class NamedBranch:
    """A branch as the command line knows it."""

    describe: Callable[[Parent, PruningHparams, Any], Desc]
    flags: type[Hparams]
    prunes: bool = True
    """Whether it takes the flags of pruning."""

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.describe.__doc__ or "").splitlines()[0]


BRANCHES: dict[str, NamedBranch] = {
    "oneshot": NamedBranch(oneshot, BranchHparams),
    "lottery_rewind": NamedBranch(lottery_rewind, RewindHparams),
    "lr_rewind": NamedBranch(lr_rewind, RewindHparams),
    "finetune": NamedBranch(finetune, FinetuneHparams),
    "randomize_layerwise": NamedBranch(randomize_layerwise, BranchHparams),
    "random_tickets": NamedBranch(random_tickets, BranchHparams),
    "reinitialize": NamedBranch(reinitialize, BranchHparams),
    "invert": NamedBranch(invert, BranchHparams),
    "gmp": NamedBranch(gmp, GradualHparams),
    "retrain": NamedBranch(retrain, RetrainHparams, prunes=False),
    "transplant": NamedBranch(transplant, TransplantHparams, prunes=False),
}
