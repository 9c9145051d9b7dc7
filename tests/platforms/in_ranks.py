"""Functions that the tests of several processes run in each process, which imports this module by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundations.description.desc import Desc
from foundations.plan import Target, plan
from platforms.platform import Platform
from tests.training.small_runs import context
from training.desc import TrainDesc
from training.job import initialized_model
from training.jobs.one_run import work
from training.loop.trainer import Trainer


def compute_all(descs: Sequence[Desc], root: Path, datasets: Path, platform: Platform) -> list[str]:
    """Compute runs with all that they need, keeping every state; return their devices, as manifests have them."""
    place = context(root, datasets, platform=platform)
    steps = [(desc, range(desc.start.iteration, desc.end.iteration)) for desc in descs]
    targets = [Target(desc, 1, tuple(map(desc.start.at, iterations))) for desc, iterations in steps]
    made = platform.agree(lambda: plan(targets, root))
    for planned in made.to_do():
        work(planned, place, platform)
        platform.agree(planned.refresh)
    return [found.device for planned in made if (found := planned.run.read_manifest()) is not None]


def trained_in_float64(desc: TrainDesc, root: Path, datasets: Path, platform: Platform) -> dict[str, Any]:
    """Train a network in float64 to the end; return its state, and its mask by `mask.<name>`."""
    place = context(root, datasets, platform=platform)
    model = initialized_model(desc, 1, techniques=desc.techniques)
    trainer = Trainer(model, desc, place, platform, 1, techniques=desc.techniques)
    trainer.model.double()
    batches = trainer.batches
    setattr(trainer, "batches", lambda *keys: ((x.double(), labels) for x, labels in batches(*keys)))  # noqa: B010
    trainer.prepare(None, desc.start)
    for images, labels in trainer._steps(desc.start, desc.end, ()):
        trainer.compute_gradients(images.double(), labels)
    found = {**trainer.model.state_dict(), **{f"mask.{name}": kept for name, kept in (trainer.mask or {}).items()}}
    return {name: tensor.tolist() for name, tensor in found.items()}


def each_trained_in_float64(
    descs: Sequence[TrainDesc], root: Path, datasets: Path, platform: Platform
) -> list[dict[str, Any]]:
    """Return the result of `trained_in_float64` for each description."""
    return [trained_in_float64(desc, root, datasets, platform) for desc in descs]
