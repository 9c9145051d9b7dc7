"""What a branch computes: where it scores, how it prunes, what it trains on from where."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from foundations.address import MAIN, Desc, Location
from foundations.errors import UsageError
from foundations.hparams import Hparams, hparam
from foundations.step import Step
from pruning.hparams import PruningHparams
from training.desc import TrainDesc

# Raised by hand when the branch computes something else from the same description.
ONESHOT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BranchHparams(Hparams):
    """Where a branch takes its states from, and what it does to mask and weights before training."""

    prune_experiment: str = hparam(MAIN)
    """The run whose weights are scored: main, or the directory of a branch of the same parent."""
    prune_step: str = hparam("0it", step=True)
    """The step of the weights that are scored; the parent's last for pruning after training."""
    state_experiment: str = hparam(MAIN)
    """The run whose weights are trained on: main, or the directory of a branch of the same parent."""
    state_step: str = hparam("0it", step=True)
    """The step of the weights that are trained on: 0ep for the initialization, later for rewinding."""
    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin; training ends where the parent's does."""
    randomize_layerwise: bool = hparam(False)
    """Permute the mask within each layer: the same density everywhere, other weights."""
    reinitialize: bool = hparam(False)
    """Train on a new initialization in place of --state_step."""

    def normalized(self, iterations_per_epoch: int) -> Self:
        """Drop the state where a new initialization takes its place."""
        unused: dict[str, Any] = {"state_experiment": MAIN, "state_step": "0it"} if self.reinitialize else {}
        return super(BranchHparams, dataclasses.replace(self, **unused)).normalized(iterations_per_epoch)


@dataclass(frozen=True, kw_only=True)
class OneshotDesc(Desc):
    """Prune a state of the parent, then train a state of the parent with that mask."""

    kind: ClassVar[str] = "oneshot"

    parent: TrainDesc
    pruning: PruningHparams
    branch: BranchHparams

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pruning.seed is not None and not self.uses_seed:
            object.__setattr__(self, "pruning", dataclasses.replace(self.pruning, seed=None))

    @property
    def uses_seed(self) -> bool:
        """Tell whether the seed of pruning can change the result."""
        shuffles = self.branch.randomize_layerwise and self.pruning.level() > 0
        return self.pruning.uses_seed or shuffles or self.branch.reinitialize

    def validate(self) -> None:
        """Check that the steps lie within the parent's training."""
        for flag, step in (
            ("prune_step", self.prune_step),
            ("state_step", self.state_step),
            ("start_step", self.start_step),
        ):
            if step > self.parent.end:
                raise UsageError(
                    f"--{flag}: {step} is after the parent's last step. Possible: 0it to {self.parent.end} "
                    f"({self.parent.end.ep}ep{self.parent.end.it}it)."
                )

    @property
    def iterations_per_epoch(self) -> int:
        """The parent's."""
        return self.parent.iterations_per_epoch

    def versions(self) -> dict[str, int]:
        """Return the version of the branch job; the strategy's stands with the strategy."""
        return {"oneshot": ONESHOT_VERSION}

    def location(self, replicate: int) -> Location:
        """Return `train_<parent's digest>/replicate_<n>/branch_oneshot_<digest>`."""
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
        return self.parent.step(self.branch.start_step, "start_step")
