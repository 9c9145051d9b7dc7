"""Checkpoints: everything that a training needs to resume to the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from foundations.description.step import Step
from foundations.metrics import Metrics
from pruning.masks.mask import Mask
from training.loop.optimizers import load_optimizer_tensors, optimizer_tensors
from training.structure import load_state

if TYPE_CHECKING:
    from training.loop.trainer import Trainer


@dataclass
class Progress:
    """The part of a checkpoint that is not tensors."""

    step: Step
    metrics: Metrics = field(default_factory=Metrics)
    parents: dict[str, str] = field(default_factory=dict)
    dataset: dict[str, str] = field(default_factory=dict)
    wall_seconds: float = 0.0


def checkpoint_of(trainer: Trainer, progress: Progress) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the content of a training's checkpoint: tensors, by `<part>.<name>`, and facts."""
    tensors = {f"model.{name}": tensor for name, tensor in trainer.model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(trainer.optimizer).items()}
    facts: dict[str, Any] = {
        "step": progress.step.iteration,
        "metrics": progress.metrics.to_csv(),
        "parents": progress.parents,
        "dataset": progress.dataset,
        "wall_seconds": progress.wall_seconds,
        "scaler": trainer.scaler.state_dict(),
        "stacked": trainer.stacked,
    }
    if trainer.mask is not None:
        bits, facts["mask"] = trainer.mask.to_tensors()
        facts["scores"] = trainer.scores
        tensors |= {f"mask.{name}": tensor for name, tensor in bits.items()}
    tensors |= {f"technique.{name}": tensor for name, tensor in trainer.hooks.state_dict().items()}
    tensors |= {f"epoch.{name}": tensor for name, tensor in trainer.epoch.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in trainer.best.items()}
    return tensors, facts


def load_checkpoint(trainer: Trainer, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Progress:
    """Restore a training from a checkpoint; return its progress.

    Raises: DamagedError, UsageError, KeyError, TypeError, ValueError, AttributeError or IndexError for one of another
    training.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    load_state(trainer.model, parts["model"])
    load_optimizer_tensors(trainer.optimizer, parts["optimizer"])
    trainer.scaler.load_state_dict(facts["scaler"])
    trainer.stacked = facts.get("stacked", 1)
    trainer.epoch.load_state_dict(parts["epoch"])
    trainer.best = parts["best"] if trainer.context.keep_best else {}
    if "mask" in facts:
        trainer.set_mask(Mask.from_tensors(parts["mask"], facts["mask"]))
        trainer.scores = facts.get("scores", {})
    trainer.hooks.load_state_dict(parts["technique"])
    metrics = Metrics.from_csv(facts["metrics"])
    step = Step(facts["step"], trainer.desc.iterations_per_epoch)
    return Progress(step, metrics, dict(facts["parents"]), dict(facts["dataset"]), float(facts["wall_seconds"]))
