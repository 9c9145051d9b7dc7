from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.masks.selection import kth_smallest, select
from pruning.method import Direction


def ones(scores: dict[str, torch.Tensor]) -> Mask:
    return Mask({name: torch.ones(score.shape, dtype=torch.bool) for name, score in scores.items()})


def test_the_lowest_scores_go() -> None:
    scores = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([2.0, 4.0])}
    assert select(scores, ones(scores), 2) == Mask({"a": torch.tensor([1, 0]), "b": torch.tensor([0, 1])})


def test_the_highest_scores_go_when_asked_for() -> None:
    scores = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([2.0, 4.0])}
    expected = Mask({"a": torch.tensor([0, 1]), "b": torch.tensor([1, 0])})
    assert select(scores, ones(scores), 2, "highest") == expected


@pytest.mark.parametrize("direction", ["lowest", "highest"])
def test_ties_fall_by_position(direction: Direction) -> None:
    scores = {"b": torch.zeros(2, 2), "a": torch.zeros(3)}
    kept = select(scores, ones(scores), 3, direction)
    assert kept == Mask({"a": torch.zeros(3), "b": torch.tensor([[0, 1], [1, 1]])})


def test_pruned_weights_stay_pruned_whatever_their_score() -> None:
    scores = {"a": torch.tensor([9.0, 1.0, 2.0, float("nan")])}
    mask = Mask({"a": torch.tensor([0, 1, 1, 0])})
    assert select(scores, mask, 1) == Mask({"a": torch.tensor([0, 0, 1, 0])})


def test_a_score_that_is_not_a_number_is_an_error_that_names_the_tensor() -> None:
    scores = {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}
    with pytest.raises(UsageError, match="scores of 'b' are not numbers"):
        select(scores, ones(scores), 2)


def test_scores_in_double_precision_are_compared_in_it() -> None:
    scores = {"a": torch.tensor([1 + 2e-12, 1.0, 1 + 1e-12], dtype=torch.float64), "b": torch.tensor([0.5])}
    assert select(scores, ones(scores), 1) == Mask({"a": torch.tensor([1, 0, 0]), "b": torch.tensor([0])})


def test_scores_in_single_precision_are_compared_in_all_of_it() -> None:
    scores = {"a": torch.tensor([1 + 2e-6, 1.0, 1 + 1e-6])}
    assert select(scores, ones(scores), 1) == Mask({"a": torch.tensor([1, 0, 0])})


def test_infinite_scores_have_their_place() -> None:
    scores = {"a": torch.tensor([float("inf"), 1.0, -float("inf"), 2.0])}
    assert select(scores, ones(scores), 3) == Mask({"a": torch.tensor([1, 1, 0, 1])})
    assert select(scores, ones(scores), 1) == Mask({"a": torch.tensor([1, 0, 0, 0])})


def test_more_weights_than_there_are_cannot_be_kept() -> None:
    scores = {"a": torch.ones(2)}
    with pytest.raises(UsageError, match="3 weights cannot be kept of 2"):
        select(scores, ones(scores), 3)


def test_scores_of_another_network_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="only one has a tensor 'a'"):
        select({"b": torch.ones(2)}, ones({"a": torch.ones(2)}), 1)
    with pytest.raises(UsageError, match=r"'a' are of shape \(3,\)"):
        select({"a": torch.ones(3)}, ones({"a": torch.ones(2)}), 1)


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, torch.Tensor], Mask, int]:
    source = torch.Generator().manual_seed(draw(st.integers(0, 2**30)))
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    levels = draw(st.sampled_from([2, 5, 10**6]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    scores = {f"t{i}": torch.randint(levels, (size,), generator=source).to(dtype) for i, size in enumerate(sizes)}
    mask = Mask({name: torch.rand(score.shape, generator=source) < 0.7 for name, score in scores.items()})
    return scores, mask, draw(st.integers(0, mask.kept))


@given(problems(), st.sampled_from(["lowest", "highest"]))
@settings(max_examples=150, deadline=None)
def test_it_is_a_stable_sort_with_its_first_part_cut_off(
    problem: tuple[dict[str, torch.Tensor], Mask, int], direction: Direction
) -> None:
    scores, mask, keep = problem
    kept = select(scores, mask, keep, direction)
    sign = 1 if direction == "lowest" else -1
    entries = [
        (sign * scores[name][i].item(), name, i)
        for name in sorted(scores)
        for i in range(len(mask[name]))
        if mask[name][i]
    ]
    kept_entries = sorted(entries, key=lambda entry: entry[0])[len(entries) - keep :]
    expected = {name: torch.zeros(len(score)) for name, score in scores.items()}
    for _, name, i in kept_entries:
        expected[name][i] = 1
    assert kept == Mask(expected)


@pytest.mark.parametrize("kind", ["even", "skewed", "tied", "sorted"])
def test_the_threshold_among_many_scores_is_exact(kind: str) -> None:
    source = torch.Generator().manual_seed(0)
    values = {
        "even": torch.rand(400_000, generator=source),
        "skewed": torch.randn(400_000, generator=source).mul(20).exp(),
        "tied": torch.randint(3, (400_000,), generator=source).float(),
        "sorted": torch.arange(400_000).float(),
    }[kind]
    ordered = values.sort().values
    for k in (1, 2, 1000, 123_456, len(ordered) - 1, len(ordered)):
        assert kth_smallest([values[:7], values[7:]], k) == ordered[k - 1].item()


def test_a_threshold_is_found_where_an_even_sample_misleads() -> None:
    values = torch.rand(400_000, generator=torch.Generator().manual_seed(0))
    values[:: 400_000 // (1 << 16)] += 5
    assert kth_smallest([values], 10) == values.sort().values[9].item()


def test_a_threshold_is_found_just_below_where_the_sample_begins() -> None:
    values = torch.rand(400_000, generator=torch.Generator().manual_seed(0))
    sampled = torch.zeros(400_000, dtype=torch.bool)
    sampled[:: 400_000 // (1 << 16)] = True
    values[sampled] = 5
    assert kth_smallest([values], int((~sampled).sum())) == values[~sampled].max().item()
