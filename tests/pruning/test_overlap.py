"""Overlap of masks against chance."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.masks.overlap import overlap


def mask_of(**rows: list[int]) -> Mask:
    return Mask({name: torch.tensor(row) for name, row in rows.items()})


Rows = list[tuple[int, int]]
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12)


@given(ROWS, ROWS)
def test_counts_and_chance_are_those_of_the_definition(
    first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    a = mask_of(x=[one for one, _ in first], y=[one for one, _ in second])
    b = mask_of(x=[other for _, other in first], y=[other for _, other in second])

    found = overlap(a, b)

    both = sum(one and other for one, other in [*first, *second])
    either = sum(one or other for one, other in [*first, *second])
    chance = sum(sum(o for o, _ in rows) * sum(t for _, t in rows) / len(rows) for rows in (first, second))
    assert found.both == both
    assert found.jaccard == pytest.approx(both / either if either else 1) == a.jaccard(b)
    assert found.both_by_chance == pytest.approx(chance)
    assert found.jaccard_by_chance == pytest.approx(chance / (a.kept + b.kept - chance) if a.kept + b.kept else 1)


def test_shuffled_masks_overlap_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = Mask({name: torch.rand(2000, generator=generator) < density for name, density in (("x", 0.1), ("y", 0.6))})

    found = [overlap(mask, mask.shuffled_layerwise(seed)) for seed in range(30)]

    assert statistics.fmean(each.both for each in found) == pytest.approx(found[0].both_by_chance, rel=0.02)
    assert abs(statistics.fmean(each.beyond_chance for each in found)) < 0.02


def test_a_mask_overlaps_with_itself_wholly() -> None:
    mask = mask_of(x=[1, 0, 1, 0], y=[0, 0, 1])

    assert overlap(mask, mask).jaccard == overlap(mask, mask).beyond_chance == 1


def test_masks_that_keep_everything_overlap_as_they_must() -> None:
    assert overlap(mask_of(x=[1, 1]), mask_of(x=[1, 1])).beyond_chance == 1


def test_one_layer_can_be_compared_alone() -> None:
    a, b = mask_of(x=[1, 1, 0, 0], y=[1, 0]), mask_of(x=[1, 0, 1, 0], y=[0, 1])

    assert overlap(a, b, "x").jaccard == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="x, y"):
        overlap(a, b, "z")


def test_masks_of_different_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="different networks"):
        overlap(mask_of(x=[1]), mask_of(x=[1, 0]))


@given(st.integers(1, 6), st.data())
def test_chance_is_the_mean_over_all_masks_of_the_same_size(size: int, data: st.DataObject) -> None:
    first, second = (data.draw(st.integers(0, size)) for _ in range(2))
    places = range(size)
    kept_by_first = set(places[:first])
    counts = [len(kept_by_first & set(chosen)) for chosen in itertools.combinations(places, second)]
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)

    a, b = (mask_of(x=[int(place < kept) for place in places]) for kept in (first, second))
    found = overlap(a, b)

    assert found.both_by_chance == pytest.approx(mean)
    assert found.variance_by_chance == pytest.approx(variance)
    assert (found.size, found.first, found.second, found.both) == (size, first, second, min(first, second))


def test_figures_follow_from_the_counts() -> None:
    first, second = mask_of(x=[1, 1, 1, 0], y=[1, 0]), mask_of(x=[1, 1, 0, 0], y=[0, 1])

    found = overlap(first, second)

    assert (found.both, found.differing) == (2, 3)
    assert found.of_smaller == pytest.approx(2 / 3)
    assert found.jaccard == pytest.approx(2 / 5)
    assert found.both_by_chance == pytest.approx(3 * 2 / 4 + 1 * 1 / 2)
    assert found.of_smaller_by_chance == pytest.approx(2 / 3)
    assert found.jaccard_by_chance == pytest.approx(2 / 5)
    assert found.over_chance == pytest.approx(1)
    assert found.standard_score == pytest.approx(0)
    assert overlap(first, second, "y").over_chance == 0


def test_masks_that_leave_no_choice_have_no_standard_score() -> None:
    empty, whole = mask_of(x=[0, 0, 0]), mask_of(x=[1, 1, 1])

    assert math.isnan(overlap(empty, whole).standard_score)
    assert math.isnan(overlap(empty, empty).over_chance)
    assert overlap(whole, whole).over_chance == 1
    assert overlap(empty, empty).jaccard == 1
