"""Shared code of the tests of loaders."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets.added.added import add_dataset
from datasets.added.options import AddOptions
from datasets.loading.batches import Batch
from datasets.registry import DATASETS


def add(root: Path, path: Path, name: str = "mine", *, in_memory: bool = True, **options: Any) -> list[str]:
    """Add a dataset to `root/datasets`; return the messages."""
    lines: list[str] = []
    add_dataset(name, path, root / "datasets", AddOptions(stream=not in_memory, **options), report=lines.append)
    return lines


def unnormalized(x: Tensor, name: str = "mine") -> Tensor:
    spec = DATASETS.find(name)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    return (x * std + mean).mul(255).round().to(torch.uint8)


def joined(batches: Iterable[Batch]) -> Batch:
    batches = list(batches)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
