"""Small runs on digits, in this process or in a forked one, and comparisons of them."""

from __future__ import annotations

import hashlib
import multiprocessing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from branches.desc import BranchDesc
from branches.named.oneshot import OneshotFlags, oneshot
from foundations.description.desc import Desc, RunRef
from foundations.reporter import NullReporter
from foundations.storage import tensor_files
from foundations.storage.run import DAMAGED, Run
from platforms.local import LocalPlatform
from platforms.platform import PlatformHparams
from pruning.hparams import PruningHparams
from training.context import Context
from training.desc import TrainDesc
from training.hparams import TechniquesHparams

FORK = multiprocessing.get_context("fork")
SMALL = {
    "dataset_name": "digits",
    "batch_size": 256,
    "model_name": "digits_lenet_16",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "training_steps": "3ep",
}
"""Six iterations an epoch, eighteen in all."""


@dataclass
class Listener:
    """A reporter that keeps all messages and counts the finished training iterations."""

    said: list[str] = field(default_factory=list)
    iterations: dict[str, int] = field(default_factory=dict)

    def say(self, line: str) -> None:
        self.said.append(line)

    def progress(self, what: str, done: int, total: int, unit: str) -> None:
        self.iterations[what] = done


def train_desc(**flags: Any) -> TrainDesc:
    return TrainDesc.of({**SMALL, **flags})


def oneshot_desc(strategy: str = "magnitude", parent: dict[str, Any] | None = None, **flags: Any) -> BranchDesc:
    values = {"strategy": strategy, **flags}
    desc = oneshot(RunRef(train_desc(**(parent or {}))), PruningHparams.of(values), OneshotFlags.of(values))
    return replace(desc, techniques=TechniquesHparams.of(values))


def context(root: Path, datasets: Path, **changes: Any) -> Context:
    platform = LocalPlatform(PlatformHparams(device="cpu"))
    return replace(Context(root=root, datasets=datasets, platform=platform, reporter=NullReporter()), **changes)


def run_of(desc: Desc, place: Context) -> Run:
    return Run(place.root, desc.location(place.replicate))


def tensor_digests(run: Run) -> dict[str, str]:
    """Return a digest of the content of a run's states, mask and metrics, independent of the run's name."""
    names = [path for pattern in ("*.safetensors", "metrics.csv", "sparsity.json") for path in run.folder.glob(pattern)]
    return {path.name: _digest(path) for path in sorted(names)}


def _digest(path: Path) -> str:
    is_whole = path.suffix == ".safetensors" and not path.name.startswith(DAMAGED)
    data = tensor_files.to_bytes(*tensor_files.read(path, "")) if is_whole else path.read_bytes()
    return hashlib.sha256(data).hexdigest()
