"""CIFAR-100: 32 x 32 pictures, with their 100 fine labels."""

from __future__ import annotations

from dataclasses import replace

from datasets.formats.cifar_batches import CifarFiles
from datasets.normalizations import SYNFLOW_CIFAR100
from datasets.sources.cifar10 import CIFAR10

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
CIFAR100 = replace(
    CIFAR10,
    spelling="cifar100",
    num_classes=100,
    mean=SYNFLOW_CIFAR100[0],
    std=SYNFLOW_CIFAR100[1],
    read=_FILES.read,
    origin="CIFAR-100 (Krizhevsky)",
)
