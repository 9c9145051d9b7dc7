"""What a branch computes: which state it scores, how it prunes, which state it trains on, and how.

Every branch that prunes once before it trains is described by one `BranchDesc`, whatever its name on the command line:
a name only stands for some of its hyperparameters. So equal experiments have equal addresses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from datasets.hparams import DatasetHparams
from foundations.address import MAIN, Desc, Location
from foundations.errors import UsageError
from foundations.hparams import Hparams, hparam
from foundations.step import Step
from pruning.hparams import PruningHparams
from training.desc import TrainDesc
from training.hparams import TrainingHparams

# Raised by hand when the branch computes something else from the same description.
ONESHOT_VERSION = 1
NO_PRUNING = PruningHparams(strategy="magnitude", prune_fraction=0.0)
"""Prune nothing: the mask is that of the run whose state is scored, or of ones. The strategy is without effect."""


@dataclass(frozen=True, kw_only=True)
class BranchHparams(Hparams):
    """Where a branch takes its states from, and what it does to mask and weights before training."""

    prune_experiment: str = hparam(MAIN)
    """The run whose weights are scored, and whose mask (if it has one) is pruned further: main, the directory of a
    branch of the same parent, or the location of any other run (as ls --json gives it)."""
    prune_step: str = hparam("0it", step=True)
    """The step of the weights that are scored; the parent's last for pruning after training."""
    state_experiment: str = hparam(MAIN)
    """The run whose weights are trained on; main, a branch of the same parent, or the location of any other run."""
    state_step: str = hparam("0it", step=True)
    """The step of the weights that are trained on: 0ep for the initialization, later for rewinding."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin; training ends where the parent's does."""
    randomize_layerwise: bool = hparam(False)
    """Permute the mask within each layer: the same density everywhere, other weights."""
    randomize_globally: bool = hparam(False)
    """Permute the mask over all layers together: the same density in all, other weights."""
    reinitialize: bool = hparam(False)
    """Train on a new initialization in place of --state_step."""
    seed: int | None = hparam(None)
    """Pins what is random in the branch (by default it follows the replicate): scores, examples, shuffles."""

    def simplified(self) -> Self:
        """Drop the state where a new initialization takes its place, and the shuffle that another undoes."""
        unused: dict[str, Any] = {"state_experiment": MAIN, "state_step": "0it"} if self.reinitialize else {}
        if self.randomize_globally:
            unused["randomize_layerwise"] = False
        return dataclasses.replace(self, **unused)


@dataclass(frozen=True, kw_only=True)
class BranchDesc(Desc):
    """Prune a state of a run, then train a state of a run with that mask.

    retrain_dataset, retrain_training: other data or training than the parent's, where not None.
    """

    kind: ClassVar[str] = "oneshot"

    parent: TrainDesc
    pruning: PruningHparams
    branch: BranchHparams
    retrain_dataset: DatasetHparams | None = None
    retrain_training: TrainingHparams | None = None

    def __post_init__(self) -> None:
        training = self.training
        for name in ("dataset", "training"):
            own, parents = getattr(training, name), getattr(self.parent, name)
            object.__setattr__(self, f"retrain_{name}", None if own == parents else own)
        start = str(training.step(self.branch.start_step, "start_step"))
        object.__setattr__(self, "branch", dataclasses.replace(self.branch, start_step=start))
        super().__post_init__()
        object.__setattr__(self, "pruning", self._meaningful_pruning())
        object.__setattr__(self, "branch", self._meaningful_branch())

    def _meaningful_pruning(self) -> PruningHparams:
        """Return how to prune, without what cannot change the result."""
        return NO_PRUNING if self.pruning.level() == 0 else self.pruning

    def _meaningful_branch(self) -> BranchHparams:
        """Return the branch's hyperparameters, without what cannot change the result."""
        unused: dict[str, Any] = {} if self.uses_seed else {"seed": None}
        if self.scores_a_state:
            return dataclasses.replace(self.branch, **unused)
        # Nothing is scored: of the run to prune, only its mask counts.
        unused["prune_step"] = "0it"
        if not self.starts_from_a_mask:
            unused |= {"prune_experiment": MAIN, "randomize_layerwise": False, "randomize_globally": False}
        return dataclasses.replace(self.branch, **unused)

    @property
    def uses_seed(self) -> bool:
        """Tell whether the seed of pruning can change the result."""
        has_mask = self.scores_a_state or self.starts_from_a_mask
        shuffles = has_mask and (self.branch.randomize_layerwise or self.branch.randomize_globally)
        return self.pruning.uses_seed or shuffles or self.branch.reinitialize

    @property
    def scores_a_state(self) -> bool:
        """Tell whether weights of a parent are scored before training."""
        return self.pruning.level() > 0

    @property
    def starts_from_a_mask(self) -> bool:
        """Tell whether the run to prune has a mask, as branches and imported tickets do."""
        if self.branch.prune_experiment == MAIN:
            return self.parent.has_mask
        return not self.branch.prune_experiment.endswith(f"/{MAIN}")

    def validate(self) -> None:
        """Check that the steps lie within the trainings that they are steps of."""
        own_end = self.training.end
        for flag, experiment, step, end in (
            ("prune_step", self.branch.prune_experiment, self.prune_step, self.parent.end),
            ("state_step", self.branch.state_experiment, self.state_step, self.parent.end),
            ("start_step", MAIN, self.start_step, own_end),
        ):
            # How far another run goes is known when it is looked at.
            if experiment == MAIN and step > end:
                raise UsageError(f"{step} is after the last step. Possible: 0it to {end} ({end.ep}ep{end.it}it).", flag)

    @property
    def training(self) -> TrainDesc:
        """How the branch trains: as its parent, but for what --retrain_... flags say."""
        return dataclasses.replace(
            self.parent,
            dataset=self.retrain_dataset or self.parent.dataset,
            training=self.retrain_training or self.parent.training,
        )

    @property
    def iterations_per_epoch(self) -> int:
        """The parent's: prune_step and state_step are steps of it."""
        return self.parent.iterations_per_epoch

    def versions(self) -> dict[str, int]:
        """Return the version of the branch job; the strategy's stands with the strategy."""
        return {self.kind: ONESHOT_VERSION}

    def location(self, replicate: int) -> Location:
        """Return `<the parent's trunk>/replicate_<n>/branch_<kind>_<digest>`."""
        return Location(self.parent.location(replicate).trunk, replicate, f"branch_{self.kind}_{self.digest}")

    @property
    def prune_step(self) -> Step:
        """The step of the weights that are scored."""
        return self.parent.step(self.branch.prune_step, "prune_step")

    @property
    def state_step(self) -> Step:
        """The step of the weights that are trained on."""
        return self.parent.step(self.branch.state_step, "state_step")

    @property
    def start_step(self) -> Step:
        """The step at which training starts."""
        return self.training.step(self.branch.start_step, "start_step")
