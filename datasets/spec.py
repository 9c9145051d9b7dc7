"""The specification of a dataset, known before its examples are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.augmentations.augmentation import Augmentation
from datasets.augmentations.none import NONE
from datasets.tasks.classification import CLASSIFICATION
from datasets.tasks.task import Task
from foundations.errors import UsageError
from foundations.inputs import IMAGES, KINDS, TOKENS, Inputs
from foundations.registry import Registered

if TYPE_CHECKING:
    from datasets.formats.source_files import Arrays, Index, SourceFiles, Split
    from datasets.hparams import DatasetHparams


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetSpec(Registered):
    """A dataset: its sizes and constants, its augmentation, and the function that reads its published files."""

    task: Task = CLASSIFICATION
    """The task that a network learns from it."""
    inputs: str = IMAGES
    """The kind of its inputs (see `foundations.inputs`)."""
    num_train: int
    """Training examples; of tokens, documents."""
    num_test: int
    num_classes: int = 0
    """Of tasks with classes."""
    num_outputs: int = 0
    """Labels or targets of each example, of tasks without classes."""
    input_shape: tuple[int, ...]
    """The shape of one example (see `foundations.inputs.KINDS`). Of tokens, the default length of a sequence."""
    mean: tuple[float, ...] = ()
    """The mean that is subtracted from each channel or feature; of images, for pixels in [0, 1]. Empty for tokens."""
    std: tuple[float, ...] = ()
    """The deviation by which each channel or feature is then divided."""
    target_mean: tuple[float, ...] = ()
    """The mean that is subtracted from each real-valued target; empty for other targets."""
    target_std: tuple[float, ...] = ()
    """The deviation by which each real-valued target is then divided."""
    vocabulary: int = 0
    """The number of different tokens."""
    padding: int | None = None
    """The token that fills the ends of shorter sequences; None if all are as long as `input_shape` says."""
    separator: int | None = None
    """The token between documents that are joined, for language modelling; None for none."""
    train_tokens: int = 0
    """Tokens of all training documents."""
    test_tokens: int = 0
    augmentation: Augmentation = NONE
    """The augmentation of training images."""
    read: Callable[[SourceFiles], Mapping[str, Split | Index | Arrays]]
    """Reads the published files: {"train": ..., "test": ...}."""
    origin: str
    """The source of the data, for users."""
    prepared_as: str = ""
    """The folder of the prepared files, if it is not named like the dataset."""
    in_memory: bool = True
    """Whether prepared files hold the examples; otherwise they hold an index of image files."""
    hparams: type[DatasetHparams] | None = None
    """A subclass of `DatasetHparams` with its own hyperparameters, if it has any."""
    named: Callable[[Mapping[str, str]], DatasetSpec] | None = None
    """Returns the dataset of a name by the groups of its pattern, where the name has the parameters of the data."""
    is_added: bool = False
    """Whether a user added it with `datasets add`."""

    def check_declared(self) -> None:
        """Check that the sizes and constants are valid and consistent."""
        if self.inputs not in KINDS:
            raise UsageError(f"inputs is '{self.inputs}'; choose from {', '.join(KINDS)}.")
        if self.inputs not in self.task.inputs:
            raise UsageError(f"{self.task.spelling} takes {' or '.join(self.task.inputs)}, not {self.inputs}.")
        outputs = "num_classes" if self.task.has_classes else "num_outputs"
        sizes = ["num_train", "num_test", *([outputs] if self.task.stored_targets else [])]
        if self.inputs == TOKENS:
            sizes += ["vocabulary", "train_tokens", "test_tokens"]
        for name in sizes:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        form = KINDS[self.inputs]
        if len(self.input_shape) != len(form.strip("(),").split(",")) or min(self.input_shape) < 1:
            raise UsageError(f"input_shape is {self.input_shape}; it must be {form}, of 1 or more.")
        if self.inputs == TOKENS:
            self._check_tokens()
        else:
            self._check_constants()
        self._check_augmentation()

    def _check_tokens(self) -> None:
        for name in ("padding", "separator"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocabulary:
                raise UsageError(f"{name} is {token}; it must be a token, from 0 to {self.vocabulary - 1}.")

    def _check_constants(self) -> None:
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.input_shape[0]:
                of_what = "features" if len(self.input_shape) == 1 else "channels"
                count = len(getattr(self, name))
                raise UsageError(f"{name} has {count} numbers, for {self.inputs} of {self.input_shape[0]} {of_what}.")
        for name, numbers in (("std", self.std), ("target_std", self.target_std)):
            if not all(number > 0 and math.isfinite(number) for number in numbers):
                raise UsageError(f"{name} is {numbers}; it must be above 0.")
        if self.target_std and not len(self.target_std) == len(self.target_mean) == self.num_outputs:
            raise UsageError(f"target_mean and target_std must have {self.num_outputs} numbers, one a target.")

    def _check_augmentation(self) -> None:
        if self.inputs != IMAGES and self.augmentation is not NONE:
            raise UsageError(f"{self.augmentation.spelling} changes images, not {self.inputs}.")
        if not self.in_memory and (self.inputs != IMAGES or not self.task.has_classes):
            raise UsageError("in_memory is False; only images with classes can be read when they are needed.")
        if self.inputs != IMAGES:
            return
        channels = self.input_shape[0]
        if not self.augmentation.takes(channels):
            needed = self.augmentation.channels_in_words
            raise UsageError(f"{self.augmentation.spelling} needs images of {needed} channels, not of {channels}.")
        if not self.in_memory and not self.augmentation.can_stream:
            raise UsageError(f"{self.augmentation.spelling} works only on datasets in memory.")

    @property
    def train_stream(self) -> int:
        """Tokens of all training documents, joined for language modelling."""
        return self.train_tokens + (self.num_train if self.separator is not None else 0)

    def inputs_of(self, shape: tuple[int, ...]) -> Inputs:
        """Return the inputs that a network gets, of examples of a shape."""
        return Inputs(shape, self.inputs, self.vocabulary, self.padding, self.task.per_token)

    @property
    def folder(self) -> str:
        """The name of the folder of the prepared files; different for each version of a plug-in's file."""
        name = self.prepared_as or self.spelling
        return name if self.plugin is None else f"{name}_{self.plugin.sha256[:8]}"
