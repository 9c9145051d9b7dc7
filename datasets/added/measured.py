"""The constants by which images are normalized, measured from the training set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.added.targets import Targets
from datasets.formats.content import Content
from datasets.formats.source_files import Arrays
from datasets.prepared import SPLITS


def measured(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel of images (N, C, H, W), with pixels in [0, 1], to four places."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in images.swapaxes(0, 1):
        weights = np.bincount(channel.reshape(-1), minlength=256) / channel.size
        mean = float(weights @ levels)
        means.append(round(mean, 4))
        stds.append(max(round(float(np.sqrt(weights @ (levels - mean) ** 2)), 4), 1e-4))
    return means, stds


def images_with_targets(images: Mapping[str, NDArray[np.uint8]], targets: Targets, path: Path) -> Content:
    """Return the content of images uint8 (N, C, H, W) of each split, with targets."""
    mean, std = measured(images["train"])
    source, names = f"added from {path.name}", targets.class_names
    splits = {split: Arrays({"images": images[split], **targets.splits[split]}, source, names) for split in SPLITS}
    return Content(splits, targets.task, input_shape=images["train"].shape[1:], mean=mean, std=std, **targets.facts)
