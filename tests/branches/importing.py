"""Importing files in the formats of other programs, under a root of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from branches.imported.weights_file import import_weights
from foundations.storage.run import Run
from tests.training.small_runs import Listener, context, train_desc
from training.desc import TrainDesc


class Importer:
    """Imports saved files into a root of its own, and keeps the messages."""

    def __init__(self, folder: Path, datasets: Path) -> None:
        self.folder, self.listener = folder, Listener()
        self.context = context(folder / "runs", datasets, reporter=self.listener)

    def path(self, name: str = "weights.pth") -> Path:
        return self.folder / name

    def read(self, name: str = "weights.pth", desc: TrainDesc | None = None) -> Run:
        self.listener.said.clear()
        return import_weights(self.path(name), desc or train_desc(), self.context)

    def saved(self, content: object, desc: TrainDesc | None = None, **options: Any) -> Run:
        torch.save(content, self.path(), **options)
        return self.read(desc=desc)

    @property
    def said(self) -> str:
        return " ".join(self.listener.said)


def state_of(run: Run) -> dict[str, Tensor]:
    return run.load_state(train_desc().start)


def is_state(run: Run, weights: Mapping[str, Tensor]) -> bool:
    state = state_of(run)
    return state.keys() == weights.keys() and all(torch.equal(state[name], weights[name]) for name in state)


def behind(prefix: str, tensors: Mapping[str, Tensor], plus: float = 0.0) -> dict[str, Tensor]:
    return {prefix + name: tensor + plus for name, tensor in tensors.items()}


def pruned_by_torch(network: nn.Module) -> nn.Module:
    """Prune 70% of the weights of each linear layer, and return the network."""
    for layer in (layer for layer in network.modules() if isinstance(layer, nn.Linear)):
        prune.l1_unstructured(layer, "weight", amount=0.7)
    return network
