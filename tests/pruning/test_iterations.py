from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pruning.registry import SCHEDULES


def test_exponential_removes_the_same_fraction_each_time() -> None:
    assert SCHEDULES.find("exponential").counts(1000, 1, 3) == [100, 10, 1]


def test_linear_removes_the_same_number_each_time() -> None:
    assert SCHEDULES.find("linear").counts(1000, 100, 3) == [700, 400, 100]


def test_counts_between_are_rounded_to_the_nearest_whole_number() -> None:
    assert SCHEDULES.find("exponential").counts(8, 4, 2) == [6, 4]
    assert SCHEDULES.find("linear").counts(10, 0, 3) == [7, 3, 0]


def test_one_iteration_goes_straight_to_the_target() -> None:
    assert all(schedule.counts(1000, 7, 1) == [7] for schedule in SCHEDULES)


@given(st.integers(0, 10**7), st.floats(0, 1), st.integers(1, 120), st.sampled_from(SCHEDULES.spellings()))
def test_counts_never_rise_and_end_at_the_target(start: int, share: float, iterations: int, schedule: str) -> None:
    target = int(start * share)
    counts = SCHEDULES.find(schedule).counts(start, target, iterations)
    assert len(counts) == iterations
    assert counts[-1] == target
    assert sorted([start, *counts], reverse=True) == [start, *counts]
