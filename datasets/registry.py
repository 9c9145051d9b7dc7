"""The datasets, their tasks, and augmentations, by name."""

from __future__ import annotations

from collections.abc import Iterable

from datasets.augmentations.augmentation import Augmentation
from datasets.spec import DatasetSpec
from datasets.tasks.task import Task
from foundations.registry import Registry


class DatasetRegistry(Registry[DatasetSpec]):
    """The datasets that come with open_prune, and those that a user added to a folder."""

    def find(self, name: str) -> DatasetSpec:
        """Return the dataset of a name, with the parameters that the name has. Raises: UsageError."""
        spec, groups = self.match(name)
        return spec if spec.named is None else spec.named(groups)

    def replace_added(self, specs: Iterable[DatasetSpec]) -> None:
        """Replace the datasets that users added by these."""
        added = list(specs)
        if not added and not any(spec.is_added for spec in self._entries):
            return  # as for most users; nothing needs to be imported
        entries = [*(spec for spec in self if not spec.is_added), *added]
        if entries != self._entries:
            self._entries = entries
            self._found.clear()


AUGMENTATIONS = Registry(
    Augmentation,
    "augmentation",
    (
        "datasets.augmentations.none",
        "datasets.augmentations.pad4_crop_flip",
        "datasets.augmentations.resized_crop_flip",
        "datasets.augmentations.resized_crop_jitter_flip",
        "datasets.augmentations.randaugment",
    ),
)

TASKS = Registry(
    Task,
    "task",
    (
        "datasets.tasks.classification",
        "datasets.tasks.multi_label",
        "datasets.tasks.regression",
        "datasets.tasks.language_modelling",
        "datasets.tasks.sequence_classification",
    ),
)

DATASETS = DatasetRegistry(
    DatasetSpec,
    "dataset_name",
    (
        "datasets.sources.digits",
        "datasets.sources.breast_cancer",
        "datasets.sources.diabetes",
        "datasets.sources.kjv",
        "datasets.sources.modular_arithmetic",
        "datasets.sources.mnist",
        "datasets.sources.fashion_mnist",
        "datasets.sources.cifar10",
        "datasets.sources.cifar100",
        "datasets.sources.cinic10",
        "datasets.sources.svhn",
        "datasets.sources.tinyimagenet",
        "datasets.sources.imagenet",
    ),
)
