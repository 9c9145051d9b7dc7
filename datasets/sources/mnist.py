"""MNIST: 28 x 28 handwritten digits."""

from __future__ import annotations

from datasets.augmentations.none import NONE
from datasets.formats.idx import IdxFiles
from datasets.normalizations import MNIST as CONSTANTS
from datasets.spec import DatasetSpec

_FILES = IdxFiles(
    folder="MNIST",
    urls=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    md5=(
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    class_names=tuple("0123456789"),
)
MNIST = DatasetSpec(
    spelling="mnist",
    num_train=60_000,
    num_test=10_000,
    num_classes=10,
    input_shape=(1, 28, 28),
    mean=CONSTANTS[0],
    std=CONSTANTS[1],
    augmentation=NONE,
    read=_FILES.read,
    origin="MNIST (LeCun et al.)",
)
