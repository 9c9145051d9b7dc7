from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import UsageError
from foundations.examples import choose_examples


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
