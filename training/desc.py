"""What a train job computes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

from datasets.hparams import DatasetHparams
from foundations.address import MAIN, Location
from foundations.desc import Desc, RunKind
from foundations.errors import UsageError
from foundations.step import Step
from models.hparams import ModelHparams
from training.hparams import TrainingHparams

# Raised by hand when the train job computes something else from the same description.
TRAIN_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TrainDesc(Desc):
    """A dataset, a model and how to train it."""

    kind: ClassVar[str] = "train"
    job: ClassVar[str] = "training.job:TrainJob"

    dataset: DatasetHparams
    model: ModelHparams
    training: TrainingHparams

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.outputs == self.dataset.num_classes:  # what they would be anyway
            object.__setattr__(self, "model", dataclasses.replace(self.model, outputs=None))
        if self.outputs < self.dataset.num_classes:
            raise UsageError(
                f"{self.outputs} outputs are too few for the {self.dataset.num_classes} classes of "
                f"'{self.dataset.dataset_name}'.",
                "outputs",
            )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the description with some hyperparameters, such as those of a recipe; the rest are defaults."""
        return cls(
            dataset=DatasetHparams.of(values), model=ModelHparams.of(values), training=TrainingHparams.of(values)
        )

    @property
    def main(self) -> TrainDesc:
        """The description itself."""
        return self

    @cached_property
    def iterations_per_epoch(self) -> int:
        """ceil(examples / batch size): the last batch may be smaller."""
        return self.dataset.iterations_per_epoch

    @property
    def dataset_name(self) -> str:
        """The dataset that it is trained on."""
        return self.dataset.dataset_name

    def versions(self) -> dict[str, int]:
        """Return the version of the train job."""
        return {"train": TRAIN_VERSION}

    def location(self, replicate: int) -> Location:
        """Return `<kind>_<digest>/replicate_<n>/main`."""
        return Location(f"{self.kind}_{self.digest}", replicate, MAIN)

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return self.model.outputs or self.dataset.num_classes

    @property
    def as_trained(self) -> TrainDesc:
        """Dataset, model and training of the run: the description itself. A branch may retrain otherwise."""
        return self

    @property
    def start(self) -> Step:
        """The step of the initialization."""
        return Step(0, self.iterations_per_epoch)

    @property
    def end(self) -> Step:
        """The last step."""
        return self.training.end(self.iterations_per_epoch)

    def step(self, text: str, hparam: str = "step") -> Step:
        """Read a step of this training."""
        return Step.parse(text, self.iterations_per_epoch, hparam)


TRAIN = RunKind(spelling="train", desc=TrainDesc)
