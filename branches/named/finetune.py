"""`finetune`: prune trained weights and train them on at the last learning rate (Han et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from branches.desc import BranchDesc, BranchHparams, main_of
from branches.named.branch import Branch, SeedFlags, branch_of, constant, last_state
from foundations.description.desc import RunRef
from foundations.description.hparams import hparam
from pruning.hparams import PruningHparams
from training.loop.lr_schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class FinetuneFlags(SeedFlags):
    """Length of the finetuning."""

    finetune_steps: str = hparam("10ep", step=True)
    """The length of the training at the last learning rate."""


def finetune(parent: RunRef, pruning: PruningHparams, flags: FinetuneFlags) -> BranchDesc:
    """Prune the last weights, keep them and train on at the last learning rate (Han et al. 2015)."""
    main = main_of(parent)
    last = learning_rate(main.training, main.iterations_per_epoch)(max(0, main.end.iteration - 1))
    desc = branch_of(parent, pruning, last_state(parent), last_state(parent), BranchHparams(seed=flags.seed))
    return replace(desc, retrain_training=constant(main.training, flags.finetune_steps, last))


FINETUNE = Branch(spelling="finetune", describe=finetune, flags=FinetuneFlags)
