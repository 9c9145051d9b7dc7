"""The learning rate as a pure function of the iteration."""

from __future__ import annotations

import math
from collections.abc import Callable

from foundations.description.step import Step, parse_steps
from foundations.plugins.users_code import mistake
from training.hparams import TrainingHparams
from training.registry import LR_SCHEDULES
from training.schedules.schedule import Course, LrSchedule


def learning_rate(hparams: TrainingHparams, iterations_per_epoch: int) -> Callable[[int], float]:
    """Return the learning rate of each iteration t (from 0).

    It is lr * factor(t) * min(1, t / warmup), with the factor of the schedule (`training.schedules`). So the first
    iteration of a warmup has learning rate 0, as in OpenLTH. A min_lr changes lr * factor(t) to
    min_lr + (lr - min_lr) * factor(t) if the factor falls to 0, and to max(min_lr, lr * factor(t)) otherwise.
    """
    schedule = LR_SCHEDULES.find(hparams.lr_schedule)
    milestones = parse_steps(hparams.milestone_steps or "", iterations_per_epoch, "milestone_steps")
    warmup = Step.parse(hparams.warmup_steps, iterations_per_epoch, "warmup_steps").iteration
    course = Course(
        end=hparams.end(iterations_per_epoch).iteration,
        iterations_per_epoch=iterations_per_epoch,
        warmup=warmup,
        milestones=tuple(step.iteration for step in milestones),
        gamma=hparams.gamma or 1.0,
        hparams=hparams,
    )
    lr, least = hparams.lr, hparams.min_lr

    def rate(t: int) -> float:
        factor = _factor(schedule, t, course)
        if not least:
            return lr * factor
        return least + (lr - least) * factor if schedule.ends_at_zero else max(least, lr * factor)

    return lambda t: rate(t) * (min(1.0, t / warmup) if warmup else 1.0)


def _factor(schedule: LrSchedule, t: int, course: Course) -> float:
    """Return the factor of a schedule. Raises: PluginError where that of a plug-in is not a number of 0 or more."""
    factor = schedule.factor(t, course)
    if schedule.plugin is not None and not (isinstance(factor, int | float) and 0 <= factor < math.inf):
        reason = f"returned {factor!r} at iteration {t}; it must return a finite number of 0 or more."
        raise mistake(schedule.factor, schedule, reason)
    return factor
