"""Conditions on rows: the choice of `--where`, in every command that takes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.rows.run_row import Row
from analysis.rows.selection import chosen, ordered
from foundations.errors import UsageError
from tests.analysis.rows import damaged, pruned, training

ROWS = [
    replace(training(accuracy=0.9, lr=0.1, training_steps="60it", seed=None), age=30.0, iterations_per_epoch=6),
    replace(
        pruned("snip10", 0.9, accuracy=0.8, lr=0.2, training_steps="30it", seed=3, milestone_steps="6it,12it"),
        age=7200.0,
        iterations_per_epoch=6,
    ),
    replace(
        pruned("synflow", 0.5, accuracy=0.7, lr=0.3, training_steps="60it", seed=10, shuffled=True),
        age=86400.0 * 3,
        iterations_per_epoch=6,
    ),
    pruned("random", 0.8, accuracy=None, lr=0.3, training_steps="90it", seed=11, shuffled=False),
]
"""A training, two branches, and one that is not complete."""


def places(where: str, rows: list[Row] = ROWS) -> list[int]:
    return [rows.index(row) for row in chosen(rows, where)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("accuracy>0.7", [0, 1]),
        ("accuracy>=0.7", [0, 1, 2]),
        ("accuracy<0.8", [2]),
        ("accuracy<=80%", [1, 2]),
        ("accuracy>0.7,accuracy<0.9", [1]),
        ("accuracy=0.8,accuracy=0.7", [1, 2]),
        ("lr!=0.3", [0, 1]),
        ("lr!=0.3,lr!=0.1", [1]),
        ("lr>=3e-1", [2, 3]),
        ("prune_fraction>0.8", [1]),
        ("compression>=10", [1]),
        (" lr < 0.2 ", [0]),
        ("lr==0.2", [1]),
        ("seed>2,seed<=10", [1, 2]),
        ("training_steps<10ep", [1]),
        ("training_steps>=10ep", [0, 2, 3]),
        ("training_steps=10ep", [0, 2]),
        ("training_steps!=60it", [1, 3]),
        ("training_steps>50", [0, 2, 3]),
        ("age<2h", [0]),
        ("age<=2h", [0, 1]),
        ("age>1.5d", [2]),
        ("age>30", [1, 2]),
        ("age>1 min", [1, 2]),
        ("strategy=s*", [1, 2]),
        ("strategy=S?NFLOW", [2]),
        ("strategy!=s*", [3]),
        ("strategy!=snip10", [2, 3]),
        ("shuffled=true", [2]),
        ("shuffled!=true", [3]),
        ("milestone_steps=6it*", [1]),
        ("branch=,status=complete", [0]),
        ("branch!=", [1, 2, 3]),
        ("branch=None", [0]),
        ("strategy='synflow'", [2]),
        ('strategy!="synflow"', [1, 3]),
        ('milestone_steps="6it,12it"', [1]),
        ("milestone_steps='1ep,2ep',lr=0.2", [1]),
        ("status=comp*", [0, 1, 2]),
        ("accuracy>70%", [0, 1]),
    ],
)
def test_a_condition_chooses_rows(where: str, expected: list[int]) -> None:
    assert places(where) == expected


@pytest.mark.parametrize("sign", ["=", "!=", "<", "<=", ">", ">="])
def test_a_row_without_the_value_never_matches(sign: str) -> None:
    assert 0 not in places(f"seed{sign}3")
    assert 3 not in places(f"accuracy{sign}0.7")
    assert 3 not in places(f"age{sign}2h")


def test_none_asks_for_rows_without_the_value_and_with_it() -> None:
    assert places("seed=None") == [0]
    assert places("seed!=none") == [1, 2, 3]


def test_a_damaged_run_has_no_values_but_a_status() -> None:
    rows = [*ROWS, damaged()]

    assert places("lr>0", rows) == [0, 1, 2, 3]
    assert places("status=damaged", rows) == [4]


def test_steps_are_those_of_the_run() -> None:
    longer = replace(ROWS[0], iterations_per_epoch=60)

    assert places("training_steps>=5ep", [longer]) == []
    assert places("training_steps<=1ep", [longer]) == [0]


def test_numbers_that_differ_in_the_last_digits_only_are_equal_in_every_comparison() -> None:
    rows = [pruned("random", 1 - 0.8**2)]

    assert places("prune_fraction<=0.36", rows) == places("prune_fraction>=0.36", rows) == [0]
    assert places("prune_fraction<0.36", rows) == places("prune_fraction>0.36", rows) == []


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("strategy<snip", "'strategy' is a text, such as 'snip10'; compare it by = or !="),
        ("accuracy>good", "'good' cannot be compared with it"),
        ("accuracy<20", "'accuracy' is from 0 to 1; write 20% for a percentage"),
        ("prune_fraction=80", "from 0 to 1"),
        ("strategy=snip10 and lr>0.1", "more than one condition; write commas"),
        ("strategy!=snip10;lr=0.1", "more than one condition"),
        ("strategy!='snip10", "has a quote that is not closed"),
        ('strategy!=snip10",lr>0.1', "has a quote that is not closed"),
        ("status=done", "'done' is not a status; choose from complete, incomplete"),
        ("status!=complet", "Did you mean 'complete'?"),
        ("age<1h30min", "A duration is a number with one of s, min, h, d"),
        ("training_steps<3 it", "A step is written like 80ep"),
        ("LR=0.1", "Did you mean 'lr'?"),
        ("milestone_steps=6it,12it", "commas of a value need quotes"),
        ("lr<", "compares with nothing"),
        ("lr=>0.1", "choose from =, !=, <, <=, >, >="),
        ("lr<<0.1", "choose from"),
        ("<0.1", "is not key=value"),
        ("lr", "is not key=value"),
        ("lr=0.1,0.2", "is not key=value"),
        ("lrr<0.1", "no run has a 'lrr'. Did you mean 'lr'?"),
    ],
)
def test_a_condition_that_cannot_be_meant_is_refused(where: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        chosen(ROWS, where)

    assert words in str(error.value)
    assert error.value.hparams == ("where",)


def test_a_mapping_has_values_that_are_equal() -> None:
    mapping: dict[str, Any] = {"lr": [0.1, 0.2], "status": "complete"}

    assert chosen(ROWS, mapping) == ROWS[:2]


def test_steps_are_ordered_as_steps_of_their_runs() -> None:
    rows = [
        training(1, 0.9, training_steps="100it"),
        replace(training(2, 0.9, training_steps="3ep"), iterations_per_epoch=10),
        training(3, 0.9, training_steps="9it"),
    ]

    assert ordered(rows, "training_steps", descending=False) == [rows[2], rows[1], rows[0]]
    assert ordered(rows, "training_steps", descending=True) == [rows[0], rows[1], rows[2]]
