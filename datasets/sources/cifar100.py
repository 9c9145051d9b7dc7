"""CIFAR-100: 32 x 32 pictures, with their 100 fine labels."""

from __future__ import annotations

from datasets.augmentations.pad4_crop_flip import PAD4_CROP_FLIP
from datasets.formats.cifar_batches import CifarFiles
from datasets.sources.normalizations import SYNFLOW_CIFAR100
from datasets.spec import DatasetSpec

_FILES = CifarFiles(
    title="CIFAR-100",
    folders=("cifar-100-python", "cifar-100-binary"),
    archive="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    batches={"train": ("train",), "test": ("test",)},
    label_field="fine_labels",
    class_names=("meta", "fine_label_names", "fine_label_names.txt"),
    label_bytes=2,
)
CIFAR100 = DatasetSpec(
    spelling="cifar100",
    num_train=50_000,
    num_test=10_000,
    num_classes=100,
    input_shape=(3, 32, 32),
    mean=SYNFLOW_CIFAR100[0],
    std=SYNFLOW_CIFAR100[1],
    augmentation=PAD4_CROP_FLIP,
    read=_FILES.read,
    origin="CIFAR-100 (Krizhevsky)",
)
