"""CIFAR-10: 32 x 32 pictures of ten classes."""

from __future__ import annotations

from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP
from datasets.formats.cifar_batches import CifarFiles
from datasets.normalizations import IMAGENET
from datasets.spec import DatasetSpec

_FILES = CifarFiles(
    title="CIFAR-10",
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    batches={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    label_field="labels",
    class_names=("batches.meta", "label_names", "batches.meta.txt"),
    label_bytes=1,
)
CIFAR10 = DatasetSpec(
    spelling="cifar10",
    num_train=50_000,
    num_test=10_000,
    num_classes=10,
    input_shape=(3, 32, 32),
    mean=IMAGENET[0],
    std=IMAGENET[1],
    augmentation=PAD4_CROP_FLIP,
    read=_FILES.read,
    origin="CIFAR-10 (Krizhevsky)",
)
