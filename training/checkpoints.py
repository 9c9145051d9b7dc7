"""What a checkpoint holds: everything that a training needs to go on to the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from foundations.metrics import Metrics
from foundations.step import Step
from pruning.mask import Mask
from training.optimizers import load_optimizer_tensors, optimizer_tensors
from training.structure import load_state

if TYPE_CHECKING:
    from training.session import Session


@dataclass
class Progress:
    """What a checkpoint holds besides tensors."""

    step: Step
    metrics: Metrics = field(default_factory=Metrics)
    parents: dict[str, str] = field(default_factory=dict)
    dataset: dict[str, str] = field(default_factory=dict)
    wall_seconds: float = 0.0


def checkpoint_of(session: Session, progress: Progress) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, by `<part>.<name>`, and the facts that a checkpoint of a training holds."""
    tensors = {f"model.{name}": tensor for name, tensor in session.model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(session.optimizer).items()}
    facts: dict[str, Any] = {
        "step": progress.step.iteration,
        "metrics": progress.metrics.to_csv(),
        "parents": progress.parents,
        "dataset": progress.dataset,
        "wall_seconds": progress.wall_seconds,
        "scaler": session.scaler.state_dict(),
        "stacked": session.stacked,
    }
    if session.mask is not None:
        bits, facts["mask"] = session.mask.to_tensors()
        facts["scores"] = session.scores
        tensors |= {f"mask.{name}": tensor for name, tensor in bits.items()}
    for technique, hooks in session.hooks.items():
        tensors |= {f"technique.{technique}.{name}": tensor for name, tensor in hooks.state_dict().items()}
    tensors |= {f"epoch.{name}": tensor for name, tensor in session.epoch.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in session.best.items()}
    return tensors, facts


def load_checkpoint(session: Session, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Progress:
    """Let a training go on from a checkpoint; return the progress that it has.

    Raises: DamagedError, UsageError, KeyError, TypeError, ValueError, AttributeError or IndexError for one of another
    training.
    """
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    load_state(session.model, parts["model"])
    load_optimizer_tensors(session.optimizer, parts["optimizer"])
    session.scaler.load_state_dict(facts["scaler"])
    session.stacked = facts.get("stacked", 1)
    session.epoch.load_state_dict(parts["epoch"])
    session.best = parts["best"] if session.context.keep_best else {}
    if "mask" in facts:
        session.set_mask(Mask.from_tensors(parts["mask"], facts["mask"]))
        session.scores = facts.get("scores", {})
    for technique, hooks in session.hooks.items():
        prefix = f"{technique}."
        state = {n.removeprefix(prefix): t for n, t in parts["technique"].items() if n.startswith(prefix)}
        hooks.load_state_dict(state)
    metrics = Metrics.from_csv(facts["metrics"])
    step = Step(facts["step"], session.desc.iterations_per_epoch)
    return Progress(step, metrics, dict(facts["parents"]), dict(facts["dataset"]), float(facts["wall_seconds"]))
