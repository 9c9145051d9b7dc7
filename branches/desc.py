"""The description of a branch run: the scored weights, the starting mask, the trained weights, and the training.

A `BranchDesc` describes every branch that prunes once before it trains, whatever its name on the command line: a name
only sets some of its hyperparameters. So equal experiments have equal addresses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from datasets.hparams import DatasetHparams
from foundations.description.address import Location
from foundations.description.desc import Desc, MaskOf, RunKind, RunRef, StateOf
from foundations.description.hparams import Hparams, hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from foundations.registry import load
from models.initializers import MASKED_INITS
from pruning.hparams import PruningHparams
from training.desc import TrainDesc, check_residual, scoring_version, techniques_of
from training.hparams import TechniquesHparams, TrainingHparams

# Raised by hand when results of the same description change.
BRANCH_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BranchHparams(Hparams):
    """Changes of mask and weights before a branch trains, and the step at which its training starts."""

    start_step: str = hparam("0it", step=True)
    """The step at which the learning rate schedule and the data order begin; training ends where the parent's does."""
    randomize_layerwise: bool = hparam(False)
    """Permute the mask within each layer: the same density everywhere, other weights."""
    randomize_globally: bool = hparam(False)
    """Permute the mask over all layers together: the same density overall, other weights."""
    randomize_width: float | None = hparam(None, at_least=0, at_most=1)
    """Permute the mask within each layer over its first units only: as many as keep a weight (0), all (1), or this
    share of the way from the former to the latter."""
    reinitialize: bool = hparam(False)
    """Train a new initialization in place of --state_step."""
    masked_init: str | None = hparam(None, choices=MASKED_INITS)
    """Draw the weights of a new initialization (--reinitialize) by how many of them the mask keeps: liu (in a layer),
    evci (in each unit), liu_tinyimagenet, evci_tinyimagenet."""
    initialization: int = hparam(0, at_least=0)
    """The number of the new initialization of --reinitialize, counted from 0."""
    sign_output: bool = hparam(True)
    """Transfer the signs of the output layer too, where signs are transferred."""
    layers_to_ignore: str | None = hparam(None, unordered=True)
    """Tensors that are kept whole after the mask was permuted, separated by commas, such as fc.weight."""
    seed: int | None = hparam(None)
    """Pins what is random: scores, scoring examples, permutations, a new initialization. By default each replicate has
    its own."""


@dataclass(frozen=True, kw_only=True)
class BranchDesc(Desc):
    """Prune a state of a run within a mask, then train a state of a run with the mask.

    The scored weights, the starting mask and the trained weights may come from three different runs.
    """

    kind: ClassVar[str] = "oneshot"
    job: ClassVar[str] = "branches.job:BranchJob"

    main: TrainDesc
    branch: BranchHparams
    pruning: PruningHparams | None = None
    """The hyperparameters of pruning; None to prune nothing."""
    scored: StateOf | None = None
    """The weights that are scored; None if nothing is scored before training."""
    mask: MaskOf | None = None
    """The mask to start from; None for a mask of ones."""
    units_from: StateOf | None = None
    """Weights in whose order of units the mask is; None to take the mask as it is."""
    units_to: StateOf | None = None
    """Weights whose order of units the mask takes, by weight matching; given with `units_from`."""
    state: StateOf | None = None
    """The weights that are trained; None for a new initialization, or for weights that the pruning method sets."""
    signs: StateOf | None = None
    """The weights whose signs the trained ones take, within the mask; None to leave the signs alone."""
    statistics: StateOf | None = None
    """The state whose batchnorm statistics training starts with; None for those that come with the weights."""
    retrain_dataset: DatasetHparams | None = None
    """Data that replace the main run's; None for the same."""
    retrain_training: TrainingHparams | None = None
    """Training that replaces the main run's; None for the same."""
    techniques: TechniquesHparams | None = None
    """Techniques of its training; None for none, whatever the main run uses."""

    def __post_init__(self) -> None:
        for name, value in self._without_effectless().items():
            object.__setattr__(self, name, value)
        has_mask = self.scored is not None or self.mask is not None
        object.__setattr__(self, "techniques", techniques_of(self.techniques, self.as_trained, has_mask=has_mask))
        super().__post_init__()
        start = str(self.as_trained.step(self.branch.start_step, "start_step"))
        object.__setattr__(self, "branch", self.branch.replaced({"start_step": start}))
        self.validate()

    def _without_effectless(self) -> dict[str, Any]:
        """Return the new values of fields that change when parts that cannot change the result are removed."""
        prunes = self.pruning is not None and self.pruning.level > 0
        pruning, scored = (self.pruning, self.scored) if prunes else (None, None)
        branch, has_mask = self.branch, scored is not None or self.mask is not None
        shuffles_globally = has_mask and branch.randomize_globally
        over_all = branch.randomize_layerwise or branch.randomize_width == 1
        shuffles_layerwise = has_mask and over_all and not shuffles_globally
        width = branch.randomize_width if has_mask and not (shuffles_globally or over_all) else None
        shuffles = shuffles_globally or shuffles_layerwise or width is not None
        draws = (pruning is not None and pruning.uses_seed) or shuffles
        is_aligned = self.units_from == self.units_to
        changes: dict[str, Any] = {
            "randomize_globally": shuffles_globally,
            "randomize_layerwise": shuffles_layerwise,
            "randomize_width": width,
            "seed": branch.seed if draws or branch.reinitialize else None,
            "initialization": branch.initialization if branch.reinitialize else 0,
            "sign_output": branch.sign_output or self.signs is None,
            "layers_to_ignore": (branch.layers_to_ignore or None) if has_mask else None,
        }
        return {
            "pruning": pruning,
            "scored": scored,
            "state": None if branch.reinitialize else self.state,
            "statistics": None if self.statistics == self.state else self.statistics,
            "units_from": None if is_aligned else self.units_from,
            "units_to": None if is_aligned else self.units_to,
            "branch": branch.replaced(changes),
            "retrain_dataset": None if self.retrain_dataset == self.main.dataset else self.retrain_dataset,
            "retrain_training": None if self.retrain_training == self.main.training else self.retrain_training,
        }

    def validate(self) -> None:
        """Check combinations of fields. Raises: UsageError."""
        if self.branch.masked_init is not None:
            if not self.branch.reinitialize:
                raise UsageError("it is for a new initialization; give both.", "masked_init", "reinitialize")
            if self.scored is None and self.mask is None:
                raise UsageError("the branch has no mask to look at.", "masked_init")
        self._check_weights_of_method()
        self._check_structure()
        end = self.as_trained.end
        if self.start > end:
            raise UsageError(f"{self.start} is after the last step; choose 0it to {end}.", "start_step")
        if self.pruning is None or self.mask is None or not self.pruning.method.is_constructive:
            return
        for name, source in (("scored", self.scored), ("state", self.state)):
            if source is not None and source.run.desc.mask_step is not None:
                raise UsageError(
                    f"{self.pruning.strategy} adds weights to the mask, but the {name} weights are those of a "
                    "pruned run, which has zeros there. Take both from main, by prune_experiment and "
                    "state_experiment, and the mask from the pruned run, by mask_experiment.",
                    "strategy",
                )

    def _check_structure(self) -> None:
        """Check that nothing moves the mask out of its structure."""
        structure = None if self.pruning is None else self.pruning.structure
        if structure is None:
            return
        for name in ("randomize_layerwise", "randomize_globally", "randomize_width"):
            if getattr(self.branch, name) not in (False, None):
                raise UsageError(f"a permuted mask is not {structure}; leave one of them out.", name, "structure")
        if self.techniques is not None and self.techniques.moves_mask:
            reason = f"the mask would not stay {structure}: {self.techniques.technique} changes it in training."
            raise UsageError(reason, "structure", "technique")

    def _check_weights_of_method(self) -> None:
        """Check that nothing else says which weights are trained, where the pruning method sets them."""
        option = None if self.pruning is None else self.pruning.replaces_weights
        if self.pruning is None or option is None:
            return
        if self.pruning.method.set_weights is None:
            raise UsageError(f"'{self.pruning.strategy}' declares no set_weights, which would set them.", option)
        if self.branch.reinitialize:
            raise UsageError("they name different weights to train; give one of them.", option, "reinitialize")
        if self.state is not None or self.statistics is not None:
            raise UsageError(
                "this branch trains the state of a run, and not the weights that the method draws; use oneshot.", option
            )

    @cached_property
    def as_trained(self) -> TrainDesc:
        """The branch's training without techniques: its main run's, changed by the retraining fields."""
        plain, dataset, training = self.main.as_trained, self.retrain_dataset, self.retrain_training
        if dataset is None and training is None:
            return plain
        return dataclasses.replace(plain, dataset=dataset or plain.dataset, training=training or plain.training)

    @property
    def iterations_per_epoch(self) -> int:
        """Iterations in an epoch of its training."""
        return self.as_trained.iterations_per_epoch

    @property
    def dataset_name(self) -> str:
        """The dataset of its training."""
        return self.as_trained.dataset_name

    @property
    def together_key(self) -> Hashable:
        """The key of the branch's training."""
        return self.as_trained.together_key

    @property
    def start(self) -> Step:
        """The step at which training starts."""
        return self.as_trained.step(self.branch.start_step, "start_step")

    @property
    def end(self) -> Step:
        """The step at which training ends."""
        return self.as_trained.end

    @property
    def mask_step(self) -> Step | None:
        """The first step, since the mask is computed before training; the last one if a technique changes the mask."""
        return self.end if self.changes_mask else self.start

    @property
    def changes_mask(self) -> bool:
        """Whether the mask changes while the network trains."""
        return self.techniques is not None and self.techniques.changes_mask

    def check(self) -> None:
        """Check the scales of shortcuts, where some are to be pruned, and the units, where some are to be permuted.

        Raises: UsageError.
        """
        check_residual(self.main.model, self.techniques, *filter(None, [self.pruning]))
        if self.units_from is not None and self.units_to is not None:
            load("branches.job:check_alignable")(self.as_trained, self.techniques)

    def versions(self) -> dict[str, int]:
        """Return the versions of the branch job, of scoring the network, and of the method where it extends a mask.

        The method's own version is in the hyperparameters of pruning.
        """
        pruning, of_techniques = self.pruning, [] if self.techniques is None else self.techniques.scores_with
        extension = 1 if pruning is None or self.mask is None else pruning.method.extension_version
        own = [] if pruning is None or self.scored is None else [pruning]
        scoring = scoring_version(self.main.model, *of_techniques, *own)
        return {self.kind: BRANCH_VERSION, "extension": extension, "scoring": scoring}

    def location(self, replicate: int) -> Location:
        """Return `<the main run's training>/replicate_<n>/branch_<kind>_<digest>`."""
        return Location(self.main.location(replicate).training, replicate, f"branch_{self.kind}_{self.digest}")


ONESHOT = RunKind(spelling="oneshot", desc=BranchDesc)


def _desc_of(run: RunRef) -> TrainDesc | BranchDesc:
    assert isinstance(run.desc, TrainDesc | BranchDesc), "every run is a training or a branch of one"
    return run.desc


def main_of(run: RunRef) -> TrainDesc:
    """Return the main training of a run: itself, or the one that it is a branch of."""
    return _desc_of(run).main


def trained_of(run: RunRef) -> TrainDesc:
    """Return dataset, model and training of a run."""
    return _desc_of(run).as_trained


def is_untrained(desc: Desc) -> bool:
    """Return whether a run has no iterations and no techniques, so that its first state and mask are its last."""
    return desc.start == desc.end and techniques_in(RunRef(desc)) is None


def techniques_in(run: RunRef) -> TechniquesHparams | None:
    """Return the techniques of a run."""
    return _desc_of(run).techniques


def mask_of(run: RunRef) -> MaskOf | None:
    """Return the mask of a run, or None if it has none."""
    return None if run.desc.mask_step is None else MaskOf(run)
