"""The message about a training whose loss is no longer a finite number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from foundations.description.step import Step
from foundations.metrics import Metrics
from training.desc import TrainDesc
from training.hparams import TechniquesHparams
from training.loop.epoch_means import EpochMeans
from training.loop.loop import Callback

_LOSSES = ("train_loss", "test_loss", "validation_loss")


def say_divergence(metrics: Metrics, epoch: EpochMeans, active: str, say: Callable[[str], None]) -> Callback:
    """Report once that a recorded loss is not finite, and from which step on. For after evaluations.

    epoch: knows the step with the first training loss that is not finite, on a CPU. active: the hyperparameters that
    may be the cause.
    """

    def is_lost(name: str, at: int) -> bool:
        return not math.isfinite(metrics.values.get((name, at), 0.0))

    def called(step: Step) -> None:
        lost = [name for name in _LOSSES if is_lost(name, step.iteration)]
        if not lost or any(
            name in _LOSSES and at < step.iteration and is_lost(name, at) for name, at in metrics.values
        ):
            return
        first = epoch.first_lost if "train_loss" in lost else None
        since = f"at step {step}" if first is None else f"from step {first} on"
        value = metrics.values[lost[0], step.iteration]
        say(f"Warning: {lost[0]} is not finite ({value}) {since}: the training has diverged, with {active}.")

    return called


def active_in(desc: TrainDesc, techniques: TechniquesHparams | None) -> str:
    """List possible causes of a divergence: optimizer, learning rate, precision, techniques, numbers."""
    training = desc.training
    named: dict[str, Any] = {"optimizer_name": training.optimizer_name, "lr": training.lr}
    if training.precision != type(training).precision:
        named["precision"] = training.precision
    if techniques is not None:
        named["technique"] = techniques.technique
        for _, part in techniques.parts:
            defaults = {name: getattr(type(part), name) for name in part.names()}
            changed = {name: value for name, value in part.values().items() if value != defaults[name]}
            named |= {name: value for name, value in changed.items() if type(value) in (int, float)}
    return ", ".join(f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in named.items())
