"""Changes of examples and targets before any batch is made: by the dataset's task, and by hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from datasets.augmentations import transforms
from datasets.hparams import ROTATIONS, DatasetHparams
from datasets.spec import DatasetSpec


def prepared_targets(tensors: Mapping[str, Tensor], spec: DatasetSpec) -> Tensor:
    """Return the targets of a prepared split: labels int64 (N,), or float32 (N, K), by the spec standardized."""
    assert spec.task.stored_targets is not None, "next tokens are not stored"
    targets = tensors[spec.task.stored_targets]
    if spec.task.stored_targets == "labels":
        return targets
    targets = targets.float()
    if not spec.target_std:
        return targets
    mean, std = (torch.tensor(numbers, dtype=torch.float64) for numbers in (spec.target_mean, spec.target_std))
    return ((targets.double() - mean) / std).float()


def changed_examples(images: Tensor, labels: Tensor, hparams: DatasetHparams) -> tuple[Tensor, Tensor]:
    """Return the training set, changed by the hyperparameters: random labels, then the subsample, then rotation.

    images, labels: any tensors with one entry for each example. Rotation needs images uint8, random labels int64 (N,).
    The draws are OpenLTH's, from numpy's RandomState: seed s draws the new labels, and s + 1 an order of the examples.
    The first in this order get the new labels, and the first in it are kept, so that those are kept before others.
    """
    seed = hparams.transformation_seed
    if hparams.random_labels_fraction:
        count = int(np.ceil(hparams.random_labels_fraction * len(labels)))
        drawn = np.random.RandomState(seed).randint(hparams.spec.num_classes, size=count)
        where = np.random.RandomState(seed + 1).permutation(len(labels))[:count]
        labels = labels.clone()
        labels[torch.from_numpy(where)] = torch.from_numpy(drawn).to(labels.dtype)
    if hparams.subsample_fraction is not None:
        count = int(np.ceil(hparams.subsample_fraction * len(labels)))
        kept = torch.from_numpy(np.random.RandomState(seed + 1).permutation(len(labels))[:count])
        images, labels = images[kept], labels[kept]
    return changed_test_examples(images, labels, hparams)


def changed_test_examples(images: Tensor, labels: Tensor, hparams: DatasetHparams) -> tuple[Tensor, Tensor]:
    """Return the test (or validation) set, changed by the hyperparameters: only rotation changes it."""
    if hparams.unsupervised_labels != "rotation":
        return images, labels
    drawn = np.random.RandomState(hparams.transformation_seed).randint(ROTATIONS, size=len(labels))
    turns = torch.from_numpy(drawn).long()
    return transforms.rotate(images, turns), turns
