"""The description of a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from datasets.hparams import DatasetHparams
from foundations.description.address import MAIN, Location
from foundations.description.desc import Desc, RunKind
from foundations.description.step import Step
from foundations.errors import UsageError
from foundations.inputs import IMAGES
from foundations.metrics import Metric
from models.hparams import ModelHparams
from models.registry import check_takes
from training.hparams import TechniquesHparams, TrainingHparams

if TYPE_CHECKING:
    from pruning.hparams import PruningHparams

# Raise it by hand when the train job computes another result from the same description.
TRAIN_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class TrainDesc(Desc):
    """A dataset, a model and the hyperparameters of its training."""

    kind: ClassVar[str] = "train"
    job: ClassVar[str] = "training.job:TrainJob"

    dataset: DatasetHparams
    model: ModelHparams
    training: TrainingHparams
    techniques: TechniquesHparams | None = None
    """The techniques that change the training; None for none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "techniques", techniques_of(self.techniques, self, has_mask=False))
        super().__post_init__()
        check_takes(self.model.model_name, self.dataset.inputs, self.dataset.dataset_name)
        if self.model.outputs == self.dataset.num_outputs:  # equal to their defaults
            object.__setattr__(self, "model", dataclasses.replace(self.model, outputs=None))
        if self.training.sync_batchnorm and not self.model.has_batchnorm:
            object.__setattr__(self, "training", dataclasses.replace(self.training, sync_batchnorm=False))
        self._check_task()
        self._check_training()

    def _check_task(self) -> None:
        needed, name = self.dataset.num_outputs, self.dataset.dataset_name
        if self.training.label_smoothing and not self.dataset.task.smooths_labels:
            raise UsageError(
                f"{self.dataset.task.spelling}, the task of '{name}', has no labels to smooth.", "label_smoothing"
            )
        if self.dataset.num_classes and self.outputs < needed:
            raise UsageError(f"{self.outputs} outputs are too few for the {needed} classes of '{name}'.", "outputs")
        if not self.dataset.num_classes and self.outputs != needed:
            task = self.dataset.task.spelling
            raise UsageError(f"{self.outputs} is not valid; {task} of '{name}' needs {needed} outputs.", "outputs")

    def _check_training(self) -> None:
        """Check that the dataset and the network allow the options of training. Raises: UsageError."""
        training, task, kind = self.training, self.dataset.task, self.dataset.inputs.kind
        if training.mixes and not (task.has_classes and kind == IMAGES):
            raise UsageError(
                f"it mixes images of classes; '{self.dataset_name}' has {kind}, and its task is {task.spelling}.",
                "mixup" if training.mixup else "cutmix",
            )
        if training.sync_batchnorm and training.accumulate > 1:
            raise UsageError(
                "batch normalization would be over each part, not over the whole batch; give one of them.",
                "sync_batchnorm",
                "accumulate",
            )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the description with some hyperparameters, such as those of a recipe; the rest are defaults."""
        return cls(
            dataset=DatasetHparams.of(values),
            model=ModelHparams.of(values),
            training=TrainingHparams.of(values),
            techniques=TechniquesHparams.of(values),
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
        """The dataset of the training."""
        return self.dataset.spec.spelling  # with the parameters of the data, if it has some

    @property
    def together_key(self) -> Hashable:
        """The network, the data and the precision; None for data that are decoded as they are needed."""
        return (self.model, self.dataset, self.training.precision) if self.dataset.spec.in_memory else None

    def check(self) -> None:
        """Check the network, and that it has scales of shortcuts where some are to be pruned. Raises: UsageError."""
        self.model.check_planned()
        check_residual(self.model, self.techniques)

    def versions(self) -> dict[str, int]:
        """Return the versions of the train job and, if a technique scores the network, of scoring."""
        techniques = [] if self.techniques is None else self.techniques.scores_with
        return {"train": TRAIN_VERSION, "scoring": scoring_version(self.model, *techniques)}

    def location(self, replicate: int) -> Location:
        """Return `<kind>_<digest>/replicate_<n>/main`."""
        return Location(f"{self.kind}_{self.digest}", replicate, MAIN)

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        return self.model.outputs or self.dataset.num_outputs

    @property
    def headline(self) -> Metric:
        """The headline metric of the dataset's task."""
        return self.dataset.task.headline

    @cached_property
    def as_trained(self) -> TrainDesc:
        """Dataset, model and training of the run, without techniques. A branch may retrain with others."""
        return self if self.techniques is None else dataclasses.replace(self, techniques=None)

    @property
    def start(self) -> Step:
        """The step of the initialization."""
        return Step(0, self.iterations_per_epoch)

    @property
    def end(self) -> Step:
        """The last step."""
        return self.training.end(self.iterations_per_epoch)

    @property
    def mask_step(self) -> Step | None:
        """The last step, if a technique prunes: the run keeps the mask at the end of training."""
        return self.end if self.techniques is not None and self.techniques.changes_mask else None

    def step(self, text: str, hparam: str = "step") -> Step:
        """Read a step of this training."""
        return Step.parse(text, self.iterations_per_epoch, hparam)


def scoring_version(model: ModelHparams, *prunings: PruningHparams) -> int:
    """Return the version of scoring a network with some pruning methods.

    2: with dropout in train mode, which acted during scoring in version 1. 3: synaptic flow through layer norm, which
    was computed without the linearization of `pruning.scoring.linearized` before.
    """
    if model.is_linearized_anew and prunings:
        from pruning.methods.synflow import SynflowHparams  # a training that scores nothing imports no methods

        if any(isinstance(pruning, SynflowHparams) for pruning in prunings):
            return 3
    return 2 if model.has_dropout and any(pruning.runs_in_train_mode for pruning in prunings) else 1


def check_residual(model: ModelHparams, techniques: TechniquesHparams | None, *prunings: PruningHparams) -> None:
    """Check that a network will have scales of shortcuts, where techniques or others prune some. Raises: UsageError.

    Networks of plug-ins, and those that a technique changes, may have some: building them shows it.
    """
    if techniques is not None:
        prunings = (*prunings, *techniques.scores_with)
    may_have_some = model.plugins() or (techniques is not None and techniques.structural is not None)
    if any(pruning.prune_residual for pruning in prunings) and not may_have_some:
        from pruning.hparams import NO_SCALES

        raise UsageError(NO_SCALES, "prune_residual")


def techniques_of(techniques: TechniquesHparams | None, main: TrainDesc, *, has_mask: bool) -> TechniquesHparams | None:
    """Return techniques in the form of a description: with defaults written out, or None if there are none.

    has_mask: whether the training starts from a mask. Raises: UsageError if the training cannot use one of them.
    """
    if techniques is None or not techniques.parts:
        return None
    task = main.dataset.task
    for technique, part in techniques.parts:
        part.check_with(main.training)
        if technique.needs_classes and not (task.has_classes or task.per_token):
            reason = f"the task of '{main.dataset.dataset_name}' is {task.spelling}"
            raise UsageError(f"{technique.spelling} needs classes, and {reason}.", "technique")
    return techniques.for_training(main.end, has_mask=has_mask)


TRAIN = RunKind(spelling="train", desc=TrainDesc)
