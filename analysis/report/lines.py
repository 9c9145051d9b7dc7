"""What tells the lines of a report apart, found from the runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from analysis.cells import DENSE, Key, differences
from analysis.row import COLUMNS, HPARAM, Row

LEVEL_HYPERPARAMETERS = ("prune_fraction",)
"""Hyperparameters that only say how many weights are left: the axis of a report, not a line of it."""
_FIRST = ("strategy", "branch", "dataset_name", "model_name")
_SPEAKS_FOR_ITSELF = ("", *_FIRST)


def telling_keys(rows: Sequence[Row], over: Collection[str] = ()) -> tuple[str, ...]:
    """Return the fewest hyperparameters that tell all experiments apart but for their level, the strategy first.

    One that follows from those before it, such as an option that only one strategy has, is not among them.
    over: hyperparameters over which means are taken on purpose.
    """
    readable = [row for row in rows if row.is_readable]
    kinds = [[row for row in readable if row.branch], [row for row in readable if not row.branch]]
    ignored = {*LEVEL_HYPERPARAMETERS, "fingerprint", *over}
    differing = dict.fromkeys(name for each in kinds for name in differences(each) if name not in ignored)
    first = [name for name in _FIRST if name in differing or (name == "strategy" and any(row.strategy for row in rows))]
    known: list[tuple[Any, ...]] = [(bool(row.branch),) for row in readable]
    taken = {*COLUMNS, *(name for row in readable for name in row.results)}.difference(_FIRST)
    found = []
    for hyperparameter in dict.fromkeys([*first, *differing]):
        name = HPARAM + hyperparameter if hyperparameter in taken else hyperparameter
        finer = [(*before, str(row.value(name))) for before, row in zip(known, readable, strict=True)]
        if name == "strategy" or len(set(finer)) > len(set(known)):
            found.append(name)
            known = finer
    return tuple(found)


def label_of(names: Sequence[str], values: Sequence[Key], *, is_dense: bool) -> str:
    """Return what a line is called. names and values: its keys without the level."""
    known = dict(zip(names, values, strict=True))
    parts = [DENSE] if is_dense else []
    for name, value in known.items():
        if value in (None, "", DENSE):
            continue
        parts.append(text_of(value) if name in _SPEAKS_FOR_ITSELF else f"{name}={text_of(value)}")
    return ", ".join(parts) or "all runs"


def text_of(value: object) -> str:
    """Return a hyperparameter's value as people write it."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
