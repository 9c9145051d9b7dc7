from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import UsageError
from pruning.schedule import kept_after_each_iteration


def test_exponential_removes_the_same_fraction_each_time() -> None:
    assert kept_after_each_iteration(1000, 1, 3) == [100, 10, 1]


def test_linear_removes_the_same_number_each_time() -> None:
    assert kept_after_each_iteration(1000, 100, 3, "linear") == [700, 400, 100]


def test_one_iteration_goes_straight_to_the_target() -> None:
    assert kept_after_each_iteration(1000, 7, 1) == [7]


@given(st.integers(0, 10**7), st.floats(0, 1), st.integers(1, 120), st.sampled_from(["exponential", "linear"]))
def test_counts_never_rise_and_end_at_the_target(start: int, share: float, iterations: int, schedule: str) -> None:
    target = int(start * share)
    counts = kept_after_each_iteration(start, target, iterations, schedule)
    assert len(counts) == iterations
    assert counts[-1] == target
    assert sorted([start, *counts], reverse=True) == [start, *counts]


def test_an_unknown_schedule_is_named_with_what_is_possible() -> None:
    with pytest.raises(UsageError, match="Possible: exponential, linear"):
        kept_after_each_iteration(10, 1, 2, "cubic")
