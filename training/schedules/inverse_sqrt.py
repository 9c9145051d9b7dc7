"""One over the square root of the step, as in the first transformer."""

from __future__ import annotations

import math

from training.schedules.schedule import Course, LrSchedule

_WITHOUT_WARMUP = 10_000
"""The time scale without a warmup, as in Hugging Face's `get_inverse_sqrt_schedule`."""


def factor(t: int, course: Course) -> float:
    """Return sqrt(w / t) after a warmup of w steps; without one, sqrt(w / (w + t)) with w = 10,000."""
    if course.warmup:
        return math.sqrt(course.warmup / max(t, course.warmup))
    return math.sqrt(_WITHOUT_WARMUP / (_WITHOUT_WARMUP + t))


INVERSE_SQRT = LrSchedule(
    spelling="inverse_sqrt",
    known_as=("noam", "rsqrt", "transformer"),
    summary="from the end of the warmup on as 1 / sqrt(step)",
    paper="Vaswani et al. 2017, Attention Is All You Need",
    factor=factor,
)
