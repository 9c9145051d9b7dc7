"""Drops at milestones, as in OpenLTH."""

from __future__ import annotations

from training.schedules.schedule import Course, LrSchedule


def factor(t: int, course: Course) -> float:
    """Return gamma^(milestones <= t): a drop takes effect exactly at its milestone."""
    return float(course.gamma ** sum(milestone <= t for milestone in course.milestones))


MILESTONES = LrSchedule(
    spelling="milestones",
    known_as=("step", "multistep", "constant", "piecewise", "steplr"),
    summary="drops by --gamma at --milestone_steps; constant without them",
    factor=factor,
    takes_milestones=True,
)
