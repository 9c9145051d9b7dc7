"""`digits`: 1,797 scans of handwritten digits, 8 x 8, shipped beside this file.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, CC BY
4.0), its test part, which is also scikit-learn's `load_digits`. The 17 grey levels k were scaled to round(255 k / 16),
and the order is numpy's `RandomState(0).permutation(1797)` of theirs. The first 1,437 are for training, the last 360
for testing.
"""

from __future__ import annotations

from pathlib import Path

from datasets.augmentations.none import NONE
from datasets.formats.source_files import SourceFiles, Split
from datasets.spec import DatasetSpec

_SHIPPED = Path(__file__).with_name("digits.safetensors")
_NUM_TRAIN = 1_437
_SOURCE = "UCI, Optical Recognition of Handwritten Digits, test part (CC BY 4.0)"


def read(_: SourceFiles) -> dict[str, Split]:
    """Return both splits, from the shipped file."""
    import numpy as np
    from safetensors.numpy import load_file

    tensors = load_file(_SHIPPED)
    images, labels, names = tensors["images"], tensors["labels"].astype(np.int64), tuple("0123456789")
    return {
        "train": Split(images[:_NUM_TRAIN], labels[:_NUM_TRAIN], names, _SOURCE),
        "test": Split(images[_NUM_TRAIN:], labels[_NUM_TRAIN:], names, _SOURCE),
    }


DIGITS = DatasetSpec(
    spelling="digits",
    num_train=_NUM_TRAIN,
    num_test=360,
    num_classes=10,
    input_shape=(1, 8, 8),
    mean=(0.3054,),
    std=(0.3757,),
    augmentation=NONE,
    read=read,
    origin="UCI handwritten digits (Alpaydin and Kaynak), shipped with open_prune",
)
