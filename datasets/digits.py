"""`digits`: 1,797 scans of handwritten digits, 8 x 8, shipped beside this file.

Source: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, CC BY
4.0), its test part, which is also scikit-learn's `load_digits`. The 17 grey levels k were scaled to round(255 k / 16),
and the order is numpy's `RandomState(0).permutation(1797)` of theirs. The first 1,437 are for training, the last 360
for testing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from datasets.published import Published, Split

SHIPPED = Path(__file__).with_name("digits.safetensors")
NUM_TRAIN = 1_437
SOURCE = "UCI, Optical Recognition of Handwritten Digits, test part (CC BY 4.0)"


def read(_: Published) -> dict[str, Split]:
    """Return both splits, from the shipped file."""
    tensors = load_file(SHIPPED)
    images, labels = tensors["images"], tensors["labels"].astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    return {
        "train": Split(images[:NUM_TRAIN], labels[:NUM_TRAIN], names, SOURCE),
        "test": Split(images[NUM_TRAIN:], labels[NUM_TRAIN:], names, SOURCE),
    }
