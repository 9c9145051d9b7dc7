"""What a train job computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from datasets.hparams import DatasetHparams
from foundations.address import MAIN, Desc, Location
from foundations.step import Step
from models.hparams import ModelHparams
from training.hparams import TrainingHparams

# Raised by hand when the train job computes something else from the same description.
TRAIN_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TrainDesc(Desc):
    """A dataset, a model and how to train it."""

    kind: ClassVar[str] = "train"

    dataset: DatasetHparams
    model: ModelHparams
    training: TrainingHparams

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.outputs == self.dataset.num_classes:  # what they would be anyway
            object.__setattr__(self, "model", dataclasses.replace(self.model, outputs=None))

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> Self:
        """Build a description from a flat mapping of hyperparameters, such as a recipe; the rest are defaults."""
        return cls(dataset=DatasetHparams.of(flags), model=ModelHparams.of(flags), training=TrainingHparams.of(flags))

    @property
    def iterations_per_epoch(self) -> int:
        """ceil(examples / batch size): the last batch may be smaller."""
        return self.dataset.iterations_per_epoch

    def versions(self) -> dict[str, int]:
        """Return the version of the train job."""
        return {"train": TRAIN_VERSION}

    def location(self, replicate: int) -> Location:
        """Return `train_<digest>/replicate_<n>/main`."""
        return Location(f"train_{self.digest}", replicate, MAIN)

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return self.model.outputs or self.dataset.num_classes

    @property
    def has_mask(self) -> bool:
        """Tell whether the run has a mask of its own: a training from the initialization has none."""
        return False

    @property
    def start(self) -> Step:
        """The step of the initialization."""
        return Step(0, self.iterations_per_epoch)

    @property
    def end(self) -> Step:
        """The last step."""
        return self.training.end(self.iterations_per_epoch)

    def step(self, text: str, flag: str = "step") -> Step:
        """Read a step of this training."""
        return Step.parse(text, self.iterations_per_epoch, flag)
