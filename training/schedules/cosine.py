"""Half a cosine (Loshchilov and Hutter 2017, without restarts)."""

from __future__ import annotations

import math

from training.schedules.schedule import Course, LrSchedule


def factor(t: int, course: Course) -> float:
    """Return (1 + cos(pi * u)) / 2 with u going from 0 at the end of the warmup to 1 at the last step."""
    return (1 + math.cos(math.pi * course.progress(t))) / 2


COSINE = LrSchedule(
    spelling="cosine",
    known_as=("cosine_annealing", "cosineannealinglr", "cos"),
    summary="half a cosine, from --lr to --min_lr at the last step",
    paper="Loshchilov and Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts",
    factor=factor,
    ends_at_zero=True,
)
