from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import UsageError
from foundations.examples import Rows, choose_examples


@given(st.integers(1, 4), st.integers(0, 50))
def test_each_class_has_exactly_as_many_as_asked_for(per_class: int, seed: int) -> None:
    labels = torch.randint(5, (200,), generator=torch.Generator().manual_seed(0))
    chosen = choose_examples(labels, per_class, seed)
    assert len(set(chosen.tolist())) == len(chosen) == 5 * per_class
    assert labels[chosen].bincount().tolist() == [per_class] * 5


def test_the_seed_decides_which_and_in_what_order() -> None:
    labels = torch.arange(60) % 3
    assert torch.equal(choose_examples(labels, 5, 1), choose_examples(labels, 5, 1))
    assert not torch.equal(choose_examples(labels, 5, 1), choose_examples(labels, 5, 2))
    assert choose_examples(labels, 5, 1).tolist() != sorted(choose_examples(labels, 5, 1).tolist())


def test_more_examples_than_a_class_has_name_the_class() -> None:
    with pytest.raises(UsageError, match="3 examples of each class .*, but class 7 of the examples has 2"):
        choose_examples(torch.tensor([0, 0, 0, 7, 7]), 3, 0)


def test_a_class_without_examples_counts_where_the_number_of_classes_is_known() -> None:
    with pytest.raises(UsageError, match="class 2 of the examples has 0"):
        choose_examples(torch.tensor([0, 1, 0, 1]), 1, 0, num_classes=3)


@given(st.integers(0, 20), st.integers(1, 25), st.integers(1, 25))
def test_parts_of_examples_are_read_when_asked_for_and_together_are_all(total: int, size: int, smaller: int) -> None:
    inputs, targets = torch.arange(total * 2).view(total, 2), torch.arange(total)
    read: list[int] = []

    def rows(part: slice) -> torch.Tensor:
        read.append(part.stop - part.start)
        return inputs[part]

    whole = Rows(targets, rows)
    parts = [part for half in whole.split(size) for part in half.split(smaller)]
    assert read == []
    assert sum(len(part) for part in parts) == len(whole) == total
    found = [part.read() for part in parts]
    assert all(count <= min(size, smaller) for count in read)
    assert torch.equal(torch.cat([inputs[:0], *(x for x, _ in found)]), inputs)
    assert torch.equal(torch.cat([targets[:0], *(y for _, y in found)]), targets)


def test_examples_are_one_part_without_a_size() -> None:
    (part,) = Rows.of(torch.ones(3, 2), torch.arange(3)).split(None)
    assert part.read()[0].shape == (3, 2)
