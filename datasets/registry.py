"""The data sets, by name: their sizes, constants and augmentation, and who reads their published files.

A data set is a line of data here. Those that a user adds (`datasets add`) describe themselves in the header of their
prepared files; `register_added` reads them. Nothing in this file needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import normalizations
from datasets.header import read_header
from foundations.errors import DamagedError, UsageError, did_you_mean

AUGMENTATIONS = ("none", "pad4_crop_flip", "resized_crop_flip")
ADDED = "datasets.added:cannot_be_prepared"
"""The reader of a data set that a user added: there are no published files of it."""


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before its images are opened."""

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
    """How training images vary: `none`; `pad4_crop_flip` (pad by 4, crop at random, flip every other);
    `resized_crop_flip` (a random part of 0.1 to 1 of the area and of aspect 0.8 to 1.25, resized; flip every other)."""
    reader: str
    """`module:function` that reads the published files: (Published) -> {split: Split or Index}."""
    origin: str
    """Where the data come from, for people."""
    prepared_as: str = ""
    """The folder of the prepared files, where it is not the name's."""
    in_memory: bool = True
    """Whether prepared files hold the images; otherwise they hold an index of image files."""

    @property
    def folder(self) -> str:
        """The name of the folder of the prepared files."""
        return self.prepared_as or self.name


_CIFAR100_MEAN, _CIFAR100_STD = normalizations.SYNFLOW_CIFAR100
_CINIC10_MEAN, _CINIC10_STD = normalizations.CINIC10
_MNIST_MEAN, _MNIST_STD = normalizations.MNIST
_IMAGENET_MEAN, _IMAGENET_STD = normalizations.IMAGENET
_SVHN_MEAN, _SVHN_STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
_TINY_MEAN, _TINY_STD = (-0.021, -0.0354, -0.0376), (1.21, 1.20, 1.25)

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
        mean=_MNIST_MEAN,
        std=_MNIST_STD,
        augmentation="none",
        reader="datasets.mnist:read_mnist",
        origin="MNIST (LeCun et al.)",
    ),
    DatasetSpec(
        name="fashion_mnist",
        num_train=60_000,
        num_test=10_000,
        num_classes=10,
        input_shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        augmentation="none",
        reader="datasets.mnist:read_fashion_mnist",
        origin="Fashion-MNIST (Xiao et al.)",
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
        mean=_CIFAR100_MEAN,
        std=_CIFAR100_STD,
        augmentation="pad4_crop_flip",
        reader="datasets.cifar:read_cifar100",
        origin="CIFAR-100 (Krizhevsky)",
    ),
    DatasetSpec(
        name="cinic10",
        num_train=180_000,
        num_test=90_000,
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=_CINIC10_MEAN,
        std=_CINIC10_STD,
        augmentation="pad4_crop_flip",
        reader="datasets.cinic10:read",
        origin="CINIC-10 (Darlow et al.), training and validation images together",
    ),
    DatasetSpec(
        name="svhn",
        num_train=73_257,
        num_test=26_032,
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=_SVHN_MEAN,
        std=_SVHN_STD,
        augmentation="none",
        reader="datasets.svhn:read",
        origin="Street View House Numbers, cropped digits (Netzer et al.)",
    ),
    DatasetSpec(
        name="svhn_extra",
        num_train=604_388,
        num_test=26_032,
        num_classes=10,
        input_shape=(3, 32, 32),
        mean=_SVHN_MEAN,
        std=_SVHN_STD,
        augmentation="none",
        reader="datasets.svhn:read_with_extra",
        origin="svhn with its 531,131 extra training images",
    ),
    DatasetSpec(
        name="tinyimagenet",
        num_train=100_000,
        num_test=10_000,
        num_classes=200,
        input_shape=(3, 64, 64),
        mean=_TINY_MEAN,
        std=_TINY_STD,
        augmentation="resized_crop_flip",
        reader="datasets.tinyimagenet:read",
        origin="Tiny ImageNet (Stanford CS231n), augmented like ImageNet",
    ),
    DatasetSpec(
        name="tinyimagenet2",
        num_train=100_000,
        num_test=10_000,
        num_classes=200,
        input_shape=(3, 64, 64),
        mean=_TINY_MEAN,
        std=_TINY_STD,
        augmentation="pad4_crop_flip",
        reader="datasets.tinyimagenet:read",
        origin="Tiny ImageNet (Stanford CS231n), augmented like CIFAR-10",
        prepared_as="tinyimagenet",
    ),
    DatasetSpec(
        name="imagenet",
        num_train=1_281_167,
        num_test=50_000,
        num_classes=1_000,
        input_shape=(3, 224, 224),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        augmentation="resized_crop_flip",
        reader="datasets.imagenet:read",
        origin="ImageNet, ILSVRC 2012 (Russakovsky et al.)",
        in_memory=False,
    ),
)
_added: dict[str, DatasetSpec] = {}


def datasets() -> tuple[DatasetSpec, ...]:
    """Return all data sets, in the order in which they are listed, those that users added last."""
    return (*DATASETS, *_added.values())


def find_dataset(name: str) -> DatasetSpec:
    """Return the data set of a name. Raises: UsageError about `--dataset_name` for a name that is not known."""
    by_name = {spec.name: spec for spec in datasets()}
    if name not in by_name:
        raise UsageError(
            f"'{name}' is not known.{did_you_mean(name, by_name)} Possible: {', '.join(by_name)}.", "dataset_name"
        )
    return by_name[name]


def register_added(folder: Path) -> None:
    """Make the data sets that users added to a folder known to this process, in place of those of another folder.

    A description names a data set and not its folder, so the sizes of these must be known before one is built. What is
    known stays a table of the process, as it is for the data sets above.
    """
    _added.clear()
    for path in sorted(folder.glob("*/train.safetensors")):
        try:
            train, test = (read_header(path.with_name(f"{split}.safetensors")) for split in ("train", "test"))
            spec = _described(path.parent.name, train.metadata, train.tensors, test.tensors)
        except (DamagedError, OSError):
            continue  # not one of ours, or named in an error of its own when it is used
        if spec is not None:
            _added[spec.name] = spec


def description(
    augmentation: str, shape: tuple[int, ...], mean: tuple[float, ...], std: tuple[float, ...], *, in_memory: bool
) -> dict[str, str]:
    """Return the metadata by which prepared files of an added data set describe themselves, besides the usual ones."""
    values = {"input_shape": shape, "mean": mean, "std": std}
    described = {key: ",".join(map(repr, numbers)) for key, numbers in values.items()}
    return {"added": augmentation, "in_memory": str(in_memory), **described}


def _described(
    name: str, metadata: Mapping[str, str], train: Mapping[str, Any], test: Mapping[str, Any]
) -> DatasetSpec | None:
    if "added" not in metadata or name in {spec.name for spec in DATASETS}:
        return None
    try:
        channels, height, width = (int(side) for side in metadata["input_shape"].split(","))
        return DatasetSpec(
            name=name,
            num_train=train["labels"]["shape"][0],
            num_test=test["labels"]["shape"][0],
            num_classes=int(metadata["num_classes"]),
            input_shape=(channels, height, width),
            mean=tuple(float(value) for value in metadata["mean"].split(",")),
            std=tuple(float(value) for value in metadata["std"].split(",")),
            augmentation=metadata["added"],
            reader=ADDED,
            origin=metadata["source"],
            in_memory=metadata["in_memory"] == "True",
        )
    except (KeyError, ValueError):
        return None
