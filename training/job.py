"""Jobs: one process's work on one run.

A job defines only its own part: the state and mask at the start of its training, and the files that it adds.
`training.jobs.compute` does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar

from torch import nn

from foundations.description.desc import Desc
from foundations.storage.run import Run
from models.build import build_model
from models.shape_check import check_network
from platforms.platform import Platform
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.scoring.score_statistics import Statistics
from training.context import Context
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.masking import Requested, keep_mask
from training.structure import transform

D = TypeVar("D", bound=Desc)


@dataclass(frozen=True)
class InitialState:
    """Start of a training: a network on the CPU with its weights, and the mask to put on it."""

    model: nn.Module
    mask: Mask | None = None
    parents: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files of other runs that were used, by `<run>/<file>`."""

    def masked(self) -> nn.Module:
        """Put the mask on the network, and return it."""
        if self.mask is not None:
            self.mask.apply_(self.model)
        return self.model


class Job(ABC, Generic[D]):
    """One process's work on one run."""

    def __init__(self, desc: D, run: Run, context: Context, platform: Platform) -> None:
        self.desc, self.run, self.context, self.platform = desc, run, context, platform

    @property
    @abstractmethod
    def trained(self) -> TrainDesc:
        """Dataset, model and training of the run."""

    @property
    def techniques(self) -> TechniquesHparams | None:
        """The techniques that change the run's training."""
        return None

    @property
    def prunings(self) -> list[PruningHparams]:
        """Hyperparameters by which the run's network is scored and pruned."""
        return [] if self.techniques is None else self.techniques.scores_with

    @property
    def replicate(self) -> int:
        """The run's replicate."""
        return self.run.location.replicate

    @cached_property
    def initial(self) -> InitialState:
        """Start of the training, computed once."""
        return self.initial_state()

    @abstractmethod
    def initial_state(self) -> InitialState:
        """Compute the start of the training, and keep in the run all that must outlast an interruption."""

    def is_prepared(self) -> bool:
        """Return whether the run has the files that `initial_state` keeps; else a resumed training recreates them."""
        return True

    def on_finish(self, model: nn.Module, mask: Mask | None, scores: Statistics | None = None) -> dict[str, float]:
        """Keep the mask if it changed in training; return results besides the metrics.

        scores: statistics of the scores that chose the mask, if any did.
        """
        if mask is None:
            return {}
        if self.techniques is not None and self.techniques.changes_mask:
            level = self.techniques.final_level
            inputs, is_outcome = self.trained.dataset.inputs, self.techniques.mask_is_outcome
            keep_mask(self.run, mask, model, inputs, Requested(level), scores, is_outcome=is_outcome)
        report = self.run.sparsity() or {}
        by_paths = {"effective_sparsity": report["effective"]["sparsity"]} if "requested_effective" in report else {}
        return {"density": mask.density, "sparsity": mask.sparsity, **by_paths}


class TrainJob(Job[TrainDesc]):
    """Train a network from its initialization."""

    @property
    def trained(self) -> TrainDesc:
        """The description itself."""
        return self.desc

    @property
    def techniques(self) -> TechniquesHparams | None:
        """The techniques of the description."""
        return self.desc.techniques

    def initial_state(self) -> InitialState:
        """Draw the initialization of the replicate."""
        return InitialState(initialized_model(self.desc, self.replicate, techniques=self.techniques))


def initialized_model(desc: TrainDesc, *seed_keys: int | str, techniques: TechniquesHparams | None = None) -> nn.Module:
    """Return the description's network on the CPU, its weights drawn from the stream that the keys name.

    techniques: the run's, which may change the structure of the network; the description's own are ignored.
    Raises: UsageError if one of them cannot change this network, or the network cannot run on the dataset's examples.
    """
    inputs = desc.dataset.inputs
    model = build_model(desc.model, outputs=desc.outputs, inputs=inputs, seed_keys=seed_keys)
    check_network(model, desc.model, desc.outputs, inputs, desc.dataset.dataset_name)
    if techniques is not None:
        transform(model, desc.model, techniques, seed_keys)
    return model
