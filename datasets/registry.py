"""The data sets, by name: their sizes, constants and augmentation, and who reads their published files.

A data set is a line of data here. Nothing in this file needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundations.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before its files are opened."""

    name: str
    num_train: int
    num_test: int
    num_classes: int
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    mean: tuple[float, ...]
    """What is subtracted from each channel of an image whose pixels are in [0, 1]."""
    std: tuple[float, ...]
    """By what each channel is divided then."""
    augmentation: str
    """How training images vary: `none`, or `pad4_crop_flip` (pad by 4, crop at random, flip every other)."""
    reader: str
    """`module:function` that reads the published files: (Published) -> {split: Split}."""
    origin: str
    """Where the data come from, for people."""


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

DATASETS = (
    DatasetSpec(
        name="digits",
        num_train=1_437,
        num_test=360,
        num_classes=10,
        input_shape=(1, 8, 8),
        mean=(0.3054,),
        std=(0.3757,),
        augmentation="none",
        reader="datasets.digits:read",
        origin="UCI handwritten digits (Alpaydin and Kaynak), shipped with open_prune",
    ),
    DatasetSpec(
        name="mnist",
        num_train=60_000,
        num_test=10_000,
        num_classes=10,
        input_shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        augmentation="none",
        reader="datasets.mnist:read_mnist",
        origin="MNIST (LeCun et al.)",
    ),
    DatasetSpec(
        name="cifar10",
        num_train=50_000,
        num_test=10_000,
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        augmentation="pad4_crop_flip",
        reader="datasets.cifar:read_cifar10",
        origin="CIFAR-10 (Krizhevsky)",
    ),
    DatasetSpec(
        name="cifar100",
        num_train=50_000,
        num_test=10_000,
        num_classes=100,
        input_shape=(3, 32, 32),
        mean=(0.507, 0.487, 0.441),
        std=(0.267, 0.256, 0.276),
        augmentation="pad4_crop_flip",
        reader="datasets.cifar:read_cifar100",
        origin="CIFAR-100 (Krizhevsky)",
    ),
    DatasetSpec(
        name="svhn",
        num_train=73_257,
        num_test=26_032,
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        augmentation="none",
        reader="datasets.svhn:read",
        origin="Street View House Numbers, cropped digits (Netzer et al.)",
    ),
)


def datasets() -> tuple[DatasetSpec, ...]:
    """Return all data sets, in the order in which they are listed."""
    return DATASETS


def find_dataset(name: str) -> DatasetSpec:
    """Return the data set of a name. Raises: UsageError about `--dataset_name` for a name that is not known."""
    by_name = {spec.name: spec for spec in datasets()}
    if name not in by_name:
        raise UsageError(
            f"--dataset_name: '{name}' is not known.{did_you_mean(name, by_name)} Possible: {', '.join(by_name)}."
        )
    return by_name[name]
