"""The hyperparameters of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from datasets.augmentations.augmentation import Augmentation
from datasets.augmentations.none import NONE
from datasets.normalizations import NORMALIZATIONS, Constants
from datasets.registry import AUGMENTATIONS, DATASETS
from datasets.spec import DatasetSpec
from datasets.tasks.classification import CLASSIFICATION
from datasets.tasks.task import Facts, Task
from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, hparam
from foundations.errors import UsageError
from foundations.inputs import IMAGES, TOKENS, Inputs
from foundations.registry import Plugin

if TYPE_CHECKING:
    from torch import Tensor

ROTATIONS = 4
"""The classes of `unsupervised_labels=rotation`: 0, 90, 180 and 270 degrees."""
_OF_AUGMENTATIONS = ("augmentation_order", "crop_scale", "crop_ratio", "randaugment_ops", "randaugment_magnitude")
"""The fields that only some augmentations use (see `Augmentation.used_hparams`)."""
_OF_IMAGES = ("augment_as", "unsupervised_labels", "blur_factor", "normalization")
"""The fields that change images, and are refused with other inputs."""


@dataclass(frozen=True, kw_only=True)
class DatasetHparams(Hparams):
    """The dataset, its batches, and the changes of its examples and labels."""

    dataset_name: str = hparam("cifar10", elided=ALWAYS_WRITTEN)
    """The dataset; the command `datasets` lists the names."""

    batch_size: int = hparam(128, elided=ALWAYS_WRITTEN, at_least=1)
    """Examples in a batch. The last batch of an epoch holds what is left."""

    do_not_augment: bool = hparam(False)
    """Train on the images as they are."""

    augment_as: str | None = hparam(None, choices=AUGMENTATIONS)
    """Vary training images by this augmentation instead of the dataset's own, such as resized_crop_jitter_flip, with
    Synaptic-Flow's changes of colours on ImageNet."""

    transformation_seed: int = hparam(0, at_least=0, at_most=2**32 - 2)
    """The seed of random labels, of the subsample and of the rotations. OpenLTH's unset seed acts like 0."""

    validation_examples: int = hparam(0, at_least=0)
    """Hold out this many training examples, the first of the dataset, and measure on them as on the test set (ToST:
    5,000 of CIFAR)."""

    subsample_fraction: float | None = hparam(None, above=0, at_most=1)
    """Train on this fraction of the training set, rounded up and chosen at random."""

    random_labels_fraction: float | None = hparam(None, at_least=0, at_most=1)
    """Give this fraction of the training set, rounded up, labels drawn at random (which may happen to be right)."""

    unsupervised_labels: str | None = hparam(None, choices=("rotation",))
    """Replace the task: with rotation, each image is turned by 0, 90, 180 or 270 degrees, drawn once, and the label is
    how far. The turns are exact, as in the paper (Gidaris et al. 2018); OpenLTH draws an angle up to that many degrees
    instead."""

    blur_factor: int | None = hparam(None, at_least=1)
    """Shrink training images by this factor and enlarge them again (bilinear), after augmentation."""

    normalization: str | None = hparam(None, choices=tuple(NORMALIZATIONS))
    """Normalize images by the constants of this code base instead of the dataset's own (OpenLTH's, where it has the
    dataset)."""

    augmentation_order: str = hparam("flip_crop", choices=("flip_crop", "crop_flip"))
    """Whether images are flipped before they are cropped (OpenLTH) or after (most others). The images that training can
    see are the same, with the same probabilities."""

    crop_scale: float = hparam(0.1, above=0, at_most=1)
    """The smallest part of an image's area that a random resized crop shows (OpenLTH's; torchvision's and GraSP's is
    0.08, Synaptic-Flow's 0.2)."""

    crop_ratio: float = hparam(1.25, at_least=1)
    """The largest ratio of a random resized crop's width to its height, and of its height to its width (OpenLTH's;
    torchvision's is 4/3 = 1.3333333333333333)."""

    randaugment_ops: int = hparam(2, at_least=1, at_most=16)
    """The operations that RandAugment applies to each image."""

    randaugment_magnitude: int = hparam(9, at_least=0, at_most=30)
    """The strength of RandAugment's operations, of 0 to 30."""

    @classmethod
    def group_for(cls, values: Mapping[str, Any]) -> type[Self]:
        """Return the class of the dataset's hyperparameters. Raises: UsageError for an unknown dataset."""
        name = values.get("dataset_name", cls.dataset_name)
        spec = DATASETS.find(name) if isinstance(name, str) else None
        if spec is None or (spec.hparams is None and spec.inputs != TOKENS):
            return cast("type[Self]", DatasetHparams)
        if spec.inputs != TOKENS:
            return cast("type[Self]", spec.hparams)
        if spec.hparams is not None and not issubclass(spec.hparams, TokenHparams):
            raise UsageError(f"the hparams of '{name}' must be a subclass of TokenHparams.", "dataset_name")
        return cast("type[Self]", spec.hparams or TokenHparams)

    @property
    def spec(self) -> DatasetSpec:
        """The dataset itself. Raises: UsageError for an unknown one."""
        return DATASETS.find(self.dataset_name)

    @property
    def num_train(self) -> int:
        """Training examples in an epoch, after holding out and subsampling."""
        return math.ceil((self.subsample_fraction or 1.0) * (self.spec.num_train - self.validation_examples))

    @property
    def iterations_per_epoch(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self.num_train / self.batch_size)

    @property
    def task(self) -> Task:
        """The task that the network learns: the dataset's, or the one that replaces it."""
        return CLASSIFICATION if self.unsupervised_labels == "rotation" else self.spec.task

    @property
    def num_classes(self) -> int:
        """Classes of the labels that batches carry; 0 of tasks without classes."""
        if self.unsupervised_labels == "rotation":
            return ROTATIONS
        return self.spec.num_classes if self.spec.task.has_classes else 0

    @property
    def num_outputs(self) -> int:
        """Outputs that a network needs: classes, labels, targets, or the tokens of the vocabulary."""
        return self.num_classes or self.task.outputs(self.spec)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example (see `foundations.inputs.KINDS`)."""
        return self.spec.input_shape

    @property
    def inputs(self) -> Inputs:
        """The inputs that networks get."""
        return self.spec.inputs_of(self.input_shape)

    def facts(self, outputs: int, token_bytes: Tensor | None = None) -> Facts:
        """Return the constants of metrics. outputs: of the network. token_bytes: as the loader has them."""
        return Facts(outputs, self.spec.target_std, token_bytes)

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of training images."""
        if self.do_not_augment:
            return NONE
        return self.spec.augmentation if self.augment_as is None else AUGMENTATIONS.find(self.augment_as)

    @property
    def constants(self) -> Constants:
        """Mean and deviation by which images are normalized.

        Raises: UsageError if the code base of `normalization` has none for this dataset.
        """
        spec = self.spec
        if self.normalization is None:
            return spec.mean, spec.std
        constants = NORMALIZATIONS[self.normalization]
        if spec.folder not in constants:
            raise UsageError(
                f"'{self.normalization}' has no constants for '{self.dataset_name}', only for {', '.join(constants)}.",
                "normalization",
            )
        return constants[spec.folder]

    def plugins(self) -> list[Plugin]:
        """Return the plug-ins of the dataset, its task and the augmentation, besides those of other values."""
        augmentation = AUGMENTATIONS.plugin_of(self.augmentation.spelling)
        own = dict.fromkeys((self.spec.plugin, self.spec.task.plugin, augmentation))
        return [*super().plugins(), *(plugin for plugin in own if plugin is not None)]

    def simplified(self) -> Self:
        """Return these hyperparameters without values that cannot change the result.

        Raises: UsageError for an unknown dataset, or for a combination that its examples do not allow.
        """
        spec, augmentation, rotated = self.spec, self.augmentation, self.unsupervised_labels == "rotation"
        if spec.inputs == IMAGES:
            self._check_images(spec)
        self._check_examples(spec)
        subsample = None if self.subsample_fraction == 1 else self.subsample_fraction
        random_labels = None if rotated else self.random_labels_fraction or None
        unused = [name for name in _OF_AUGMENTATIONS if name not in augmentation.used_hparams]
        simple = {
            "do_not_augment": augmentation is NONE and spec.augmentation is not NONE,
            "augment_as": None if augmentation in (NONE, spec.augmentation) else self.augment_as,
            "transformation_seed": self.transformation_seed if subsample or random_labels or rotated else 0,
            "subsample_fraction": subsample,
            "random_labels_fraction": random_labels,
            "blur_factor": None if self.blur_factor == 1 else self.blur_factor,
            "normalization": None if self.constants == (spec.mean, spec.std) else self.normalization,
            **{name: getattr(DatasetHparams, name) for name in unused},
        }
        return self.replaced(simple)

    def _check_images(self, spec: DatasetSpec) -> None:
        channels, height, width = spec.input_shape
        augmentation = self.augmentation
        if not augmentation.takes(channels):
            raise UsageError(
                f"{augmentation.spelling} needs images of {augmentation.channels_in_words} channels; those of "
                f"'{self.dataset_name}' have {channels}.",
                "augment_as",
            )
        if self.augment_as is not None and not spec.in_memory and not augmentation.can_stream:
            raise UsageError(
                f"{augmentation.spelling} works only on datasets in memory; '{self.dataset_name}' is not.", "augment_as"
            )
        if self.unsupervised_labels == "rotation" and height != width:
            raise UsageError(f"rotation needs square images, not {height} x {width}.", "unsupervised_labels")
        if self.blur_factor is not None and self.blur_factor > min(height, width):
            raise UsageError(f"{self.blur_factor} shrinks images of {height} x {width} to nothing.", "blur_factor")

    def _check_examples(self, spec: DatasetSpec) -> None:
        """Check what does not depend on images."""
        given = [name for name in _OF_IMAGES if getattr(self, name) is not None] if spec.inputs != IMAGES else []
        if given:
            raise UsageError(f"it changes images; '{self.dataset_name}' has {spec.inputs}.", *given)
        if self.random_labels_fraction and not self.task.has_classes:
            raise UsageError(
                f"'{self.dataset_name}' has no classes to draw from; its task is {self.task.spelling}.",
                "random_labels_fraction",
            )
        if self.validation_examples >= self._whole_train():
            raise UsageError(
                f"{self.validation_examples} leave none of the {self._whole_train()} training "
                f"examples of '{self.dataset_name}' to train on.",
                "validation_examples",
            )

    def _whole_train(self) -> int:
        """Return the number of training examples before any are held out."""
        return self.spec.num_train


_ANY_LENGTH = 1024
"""Tokens that a sequence may always have, also where a small text fills a part of it."""


@dataclass(frozen=True, kw_only=True)
class TokenHparams(DatasetHparams):
    """A dataset of tokens, its batches, and the length of its sequences.

    For language modelling, documents are joined to one stream, with a separator before each where the dataset has one,
    and the stream is cut into sequences: these are the examples. `validation_examples` are the first of the stream,
    and `subsample_fraction` is a fraction of its tokens, documents being chosen at random until it is reached.
    """

    sequence_length: int | None = hparam(None, at_least=1)
    """Tokens of a sequence, by default the dataset's own number. Longer documents of sequence classification are cut,
    and shorter ones are padded."""

    stride: int | None = hparam(None, at_least=1)
    """In language modelling, the number of new tokens in each test sequence; the tokens before them are context. By
    default all are new (sequence_length). Every test token counts once."""

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.sequence_length or self.spec.input_shape[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The length of a sequence."""
        return (self.length,)

    @property
    def num_train(self) -> int:
        """Training sequences in an epoch, after holding out and subsampling."""
        if not self.task.per_token:
            return super().num_train
        return sequences_of(self.train_stream, self.length)

    @property
    def train_stream(self) -> int:
        """Tokens of the stream of training documents of an epoch, for language modelling."""
        left = self.spec.train_stream - self.validation_examples * self.length
        return math.ceil((self.subsample_fraction or 1.0) * left)

    def simplified(self) -> Self:
        """Return these hyperparameters without values that cannot change the result. Raises: UsageError."""
        own = self.spec.input_shape[0]
        if self.sequence_length is not None and self.sequence_length > max(self.spec.train_stream, _ANY_LENGTH):
            raise UsageError(
                f"{self.sequence_length:,} is more than the {self.spec.train_stream:,} training tokens of "
                f"'{self.dataset_name}'.",
                "sequence_length",
            )
        if self.stride is not None and not self.task.per_token:
            raise UsageError(f"it is for language modelling; '{self.dataset_name}' is not.", "stride")
        if self.stride is not None and self.stride > self.length:
            raise UsageError(f"{self.stride} is longer than a sequence of {self.length} tokens.", "stride")
        simple = {
            "sequence_length": None if self.sequence_length == own else self.sequence_length,
            "stride": None if self.stride == self.length else self.stride,
        }
        return super().simplified().replaced(simple)

    def _whole_train(self) -> int:
        if not self.task.per_token:
            return super()._whole_train()
        return sequences_of(self.spec.train_stream, self.length)


def sequences_of(stream: int, length: int) -> int:
    """Return the number of sequences into which a stream of tokens is cut; the first token has no prediction."""
    return max(1, math.ceil((stream - 1) / length))
