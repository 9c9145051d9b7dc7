from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import UsageError
from pruning.level import kept_of, prune_fraction_of


def test_three_spellings_are_one_level() -> None:
    assert prune_fraction_of(prune_fraction=0.8) == 0.8
    assert prune_fraction_of(density=0.2) == 0.8
    assert prune_fraction_of(compression=5) == 0.8
    assert prune_fraction_of(prune_fraction=2 / 3) == prune_fraction_of(density=0.3333333333333333)
    assert prune_fraction_of(compression=3) == prune_fraction_of(density=0.3333333333333333)


def test_levels_are_told_apart_by_12_decimals() -> None:
    assert prune_fraction_of(density=0.333333333333) == prune_fraction_of(compression=3) == 0.666666666667
    assert prune_fraction_of(density=0.333333333334) == 0.666666666666


def test_without_a_spelling_four_fifths_are_pruned() -> None:
    assert prune_fraction_of() == 0.8


def test_spellings_that_agree_may_stand_together() -> None:
    assert prune_fraction_of(prune_fraction=0.8, compression=5) == 0.8


def test_spellings_that_disagree_are_both_named() -> None:
    with pytest.raises(UsageError, match=r"prune_fraction, compression: they are prune fractions of 0\.8 and 0\.75"):
        prune_fraction_of(prune_fraction=0.8, compression=4)


def test_the_nearest_whole_number_is_pruned_and_a_half_is_pruned() -> None:
    assert kept_of(10, 0.24) == 8
    assert kept_of(10, 0.26) == 7
    assert kept_of(10, 0.25) == 7
    assert kept_of(26685, 0.9) == 2668


def test_a_half_is_a_half_of_the_decimals_as_written() -> None:
    """50 * 0.29 is 14.5, but 14.499999999999998 in floating point."""
    assert kept_of(50, 0.29) == 35
    assert kept_of(100, 0.285) == 71


@given(st.integers(0, 10**8), st.decimals(0, 1, places=6))
def test_counts_are_exact(total: int, level: Decimal) -> None:
    pruned = total - kept_of(total, float(level))
    assert abs(pruned - total * Fraction(repr(float(level)))) <= Fraction(1, 2)


def test_the_ends_keep_all_or_nothing() -> None:
    assert kept_of(12345, 0.0) == 12345
    assert kept_of(12345, 1.0) == 0
