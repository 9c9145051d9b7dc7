"""`finetune`: prune trained weights and train them on at the last learning rate (Han et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from branches.desc import BranchDesc, BranchHparams, main_of
from branches.named.branch import Branch, SeedFlags, branch_of, constant, last_state
from foundations.description.desc import RunRef
from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.loop.lr_schedule import learning_rate

_NEAR_ZERO = 1e-6
"""Relative to the highest learning rate."""


@dataclass(frozen=True, kw_only=True)
class FinetuneFlags(SeedFlags):
    """Length and learning rate of the finetuning."""

    finetune_steps: str = hparam("10ep", step=True)
    """The length of the training at one learning rate."""
    finetune_lr: float | None = hparam(None, above=0)
    """The learning rate; by default the last one of the parent's training."""


def finetune(parent: RunRef, pruning: PruningHparams, flags: FinetuneFlags) -> BranchDesc:
    """Prune the last weights, keep them and train on at the last learning rate, or another (Han et al. 2015)."""
    main = main_of(parent)
    lr = last_learning_rate(main) if flags.finetune_lr is None else flags.finetune_lr
    desc = branch_of(parent, pruning, last_state(parent), last_state(parent), BranchHparams(seed=flags.seed))
    return replace(desc, retrain_training=constant(main.training, flags.finetune_steps, lr))


def last_learning_rate(main: TrainDesc) -> float:
    """Return the learning rate of a training's last step. Raises: UsageError if its schedule falls to zero."""
    rate = learning_rate(main.training, main.iterations_per_epoch)
    last = rate(max(0, main.end.iteration - 1))
    if rate(main.end.iteration) <= _NEAR_ZERO * main.training.lr:
        reason = f"the schedule of the parent's training falls to zero ({last:.1e} at its last step); give another."
        raise UsageError(reason, "finetune_lr")
    return last


FINETUNE = Branch(spelling="finetune", describe=finetune, flags=FinetuneFlags)
