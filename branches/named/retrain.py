"""`retrain`: train a run's weights and mask with other hyperparameters (OpenLTH's retrain)."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, main_of, mask_of
from branches.named.branch import Branch, state_of
from datasets.hparams import DatasetHparams
from foundations.description.desc import RunRef
from foundations.description.hparams import Hparams, hparam, merged_group, overrides
from pruning.hparams import PruningHparams
from training.hparams import TrainingHparams

RETRAIN_PREFIX = "retrain_"
RetrainGroup = merged_group(
    "RetrainGroup",
    (DatasetHparams, TrainingHparams),
    Hparams,
    "Hyperparameters of the retraining that differ.",
    RETRAIN_PREFIX,
)


@dataclass(frozen=True, kw_only=True)
class RetrainFlags(RetrainGroup):  # type: ignore[misc, valid-type]
    """Hyperparameters of the retraining that replace the parent's. Steps not given are the parent's, in iterations."""

    state_step: str | None = hparam(None, step=True)
    """The step of the weights that are trained; by default the parent's first."""
    start_step: str = hparam("0it", step=True)
    """The step at which the new schedule and data order begin."""


def retrain(parent: RunRef, _pruning: PruningHparams, flags: RetrainFlags) -> BranchDesc:
    """Train the parent's weights and mask with other hyperparameters (OpenLTH's retrain)."""
    main = main_of(parent)
    return BranchDesc(
        main=main,
        mask=mask_of(parent),
        state=state_of(parent, flags.state_step),
        branch=BranchHparams(start_step=flags.start_step),
        retrain_dataset=main.dataset.replaced(overrides(flags, DatasetHparams, RETRAIN_PREFIX)),
        retrain_training=main.training.replaced(overrides(flags, TrainingHparams, RETRAIN_PREFIX)),
    )


RETRAIN = Branch(spelling="retrain", describe=retrain, flags=RetrainFlags, prunes=False)
