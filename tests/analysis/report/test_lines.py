"""Labels that distinguish the lines of a report."""

from __future__ import annotations

import pytest

from analysis.compare.comparison import line_names
from analysis.compare.points import Key
from analysis.report.lines import parts_of, telling_keys
from tests.analysis.rows import damaged, pruned, training


def test_the_strategy_tells_lines_apart_and_the_level_does_not() -> None:
    rows = [training(), *(pruned(strategy, level) for strategy in ("snip1", "random") for level in (0.5, 0.9))]

    assert telling_keys(rows) == ("strategy",)


def test_what_differs_besides_tells_lines_apart_too() -> None:
    rows = [pruned("snip1", 0.5, lr=0.1), pruned("snip1", 0.5, lr=0.2), pruned("random", 0.5, lr=0.1), damaged()]

    assert telling_keys(rows) == ("strategy", "lr")
    assert telling_keys(rows, over=["lr"]) == ("strategy",)


def test_what_follows_from_the_strategy_is_not_needed() -> None:
    rows = [pruned("snip1", 0.5, score_examples="per_class"), pruned("random", 0.5)]

    assert telling_keys(rows) == ("strategy",)


def test_runs_that_differ_at_different_levels_are_not_one_line() -> None:
    rows = [pruned("snip1", 0.5, lr=0.1), pruned("snip1", 0.9, lr=0.2)]

    assert telling_keys(rows) == ("strategy", "lr")


def test_trainings_alone_are_told_apart_by_what_they_differ_in() -> None:
    assert telling_keys([training(lr=0.1), training(lr=0.2, digest="b" * 32)]) == ("lr",)


def test_runs_without_a_strategy_are_named_by_what_they_have() -> None:
    rows = [pruned("snip1", 0.5), pruned("", 0.5, randomize_layerwise=True)]

    assert telling_keys(rows) == ("strategy", "randomize_layerwise")


def test_a_hyperparameter_with_the_name_of_a_result_is_told_from_it() -> None:
    rows = [pruned("snip1", 0.5, test_accuracy=1), pruned("snip1", 0.5, test_accuracy=2)]

    assert telling_keys(rows) == ("strategy", "hparam.test_accuracy")


@pytest.mark.parametrize(
    ("names", "values", "is_dense", "expected"),
    [
        (["strategy", "lr"], ("snip1", 0.1), False, "snip1, lr=0.1"),
        (["strategy", "lr"], ("dense", 0.1), True, "dense, lr=0.1"),
        ([], (), False, "all runs"),
        (["technique", "reinitialize"], ("gmp", True), False, "gmp, reinitialize"),
        (["technique", "reinitialize"], (None, False), False, "technique=None, reinitialize=False"),
    ],
)
def test_a_line_is_named_by_its_values(
    names: list[str], values: tuple[Key, ...], is_dense: bool, expected: str
) -> None:
    kinds = [(is_dense, values)]

    assert line_names(names, kinds, parts_of(names, kinds)) == [expected]
