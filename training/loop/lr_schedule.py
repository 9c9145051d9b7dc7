"""The learning rate as a pure function of the iteration."""

from __future__ import annotations

import math
from collections.abc import Callable

from foundations.description.step import Step, parse_steps
from training.hparams import TrainingHparams


def learning_rate(hparams: TrainingHparams, iterations_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate of each iteration t (from 0), as in OpenLTH.

    milestones: lr * gamma^(milestones <= t) * min(1, t / warmup), so a drop takes effect exactly at its milestone and
    the first iteration of a warmup has learning rate 0.
    cosine: lr * (1 + cos(pi * u)) / 2 with u going from 0 at the end of the warmup to 1 at the last step.
    """
    milestones = [
        step.iteration for step in parse_steps(hparams.milestone_steps or "", iterations_per_epoch, "milestone_steps")
    ]
    warmup = Step.parse(hparams.warmup_steps, iterations_per_epoch, "warmup_steps").iteration
    end = hparams.end(iterations_per_epoch).iteration

    def drops(t: int) -> float:
        return float((hparams.gamma or 1.0) ** sum(milestone <= t for milestone in milestones))

    def cosine(t: int) -> float:
        return (1 + math.cos(math.pi * min(1.0, max(0, t - warmup) / max(1, end - warmup)))) / 2

    factor = cosine if hparams.lr_schedule == "cosine" else drops
    return lambda t: hparams.lr * factor(t) * (min(1.0, t / warmup) if warmup else 1.0)
