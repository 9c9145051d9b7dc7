"""The data of a training on its device."""

from __future__ import annotations

import torch

from datasets.loading.batches import Loader, LoaderConfig
from datasets.loading.loader import open_loader
from datasets.loading.mixing import Mixing
from platforms.platform import Platform
from training.context import Context
from training.desc import TrainDesc


def opened_loader(
    desc: TrainDesc, context: Context, platform: Platform, memory_format: torch.memory_format, replicate: int
) -> Loader:
    """Return the loader of one process's part of the batches of a training."""
    training = desc.training
    config = LoaderConfig(
        device=platform.device,
        memory_format=memory_format,
        order_key=replicate if training.data_order_seed is None else training.data_order_seed,
        augmentation_key=replicate,
        mixing=Mixing(training.mixup, training.cutmix, desc.outputs) if training.mixes else None,
        rank=platform.rank,
        world_size=platform.world_size,
    )
    return open_loader(desc.dataset, context.datasets, config, workers=context.num_workers, opened=context.opened)
