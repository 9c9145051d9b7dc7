"""A straight line, as in BERT's code and the default of Hugging Face's Trainer."""

from __future__ import annotations

from training.schedules.schedule import Course, LrSchedule


def factor(t: int, course: Course) -> float:
    """Return 1 - u with u going from 0 at the end of the warmup to 1 at the last step."""
    return 1 - course.progress(t)


LINEAR = LrSchedule(
    spelling="linear",
    known_as=("linear_decay",),
    summary="a line, from --lr to --min_lr at the last step",
    paper="Devlin et al. 2019, BERT: Pre-training of Deep Bidirectional Transformers",
    factor=factor,
    ends_at_zero=True,
)
