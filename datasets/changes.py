"""What hyperparameters change about the examples of a data set and their labels, before any batch is made."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datasets import augment
from datasets.hparams import ROTATIONS, DatasetHparams


def changed_examples(images: Tensor, labels: Tensor, hparams: DatasetHparams) -> tuple[Tensor, Tensor]:
    """Return the training set that the hyperparameters ask for: random labels, then the subsample, then rotation.

    The draws are OpenLTH's, from numpy's RandomState: with seed s, new labels by s, and by s + 1 the order whose
    beginning gets them and whose beginning is kept. So the examples with random labels are the first to be kept.
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
    """Return the test (or validation) set that the hyperparameters ask for: only rotation changes it."""
    if hparams.unsupervised_labels != "rotation":
        return images, labels
    drawn = np.random.RandomState(hparams.transformation_seed).randint(ROTATIONS, size=len(labels))
    turns = torch.from_numpy(drawn).to(labels.dtype)
    return augment.rotate(images, turns), turns
