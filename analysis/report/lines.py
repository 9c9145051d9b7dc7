"""Keys that tell the lines of a report apart, derived from the runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from analysis.compare.comparison import Kind, Parts
from analysis.compare.points import DENSE, differences, text_of
from analysis.rows.run_row import COLUMNS, HPARAM, Row

_NOTHING = (None, False, "")
LEVEL_HYPERPARAMETERS = ("prune_fraction", "effective_density")
"""Hyperparameters of the level: they are the axis of a report, and tell no lines apart."""
_FIRST = ("strategy", "technique", "branch", "dataset_name", "model_name")
"""Keys that people look for first; their values are clear without a name."""


def telling_keys(rows: Sequence[Row], over: Collection[str] = ()) -> tuple[str, ...]:
    """Return the fewest hyperparameters that tell all experiments apart, except for their level, the strategy first.

    Omits hyperparameters that follow from earlier ones, such as an option of a single strategy.
    over: hyperparameters to average over on purpose.
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
    return tuple(found + _naming(readable, found, list(differing)))


def _naming(rows: Sequence[Row], found: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return a hyperparameter that names the runs for which all found keys are empty, such as controls."""
    unnamed = [row for row in rows if row.branch and all(row.value(name) in _NOTHING for name in found)]
    return [name for name in names if any(row.value(name) not in _NOTHING for row in unnamed)][:1]


def parts_of(names: Sequence[str], kinds: Sequence[Kind]) -> list[Parts]:
    """Return the texts for the values of each line, the usual text first."""
    found = []
    for is_dense, keys in kinds:
        parts: Parts = {"strategy": (DENSE,)} if is_dense else {}
        for name, value in zip(names, keys, strict=True):
            pair = f"{name}={text_of(value)}"
            if value is True:
                parts[name] = (name, pair)
            elif value not in (*_NOTHING, DENSE):
                parts[name] = (text_of(value), pair) if name in _FIRST else (pair, text_of(value))
        found.append(parts)
    return found
