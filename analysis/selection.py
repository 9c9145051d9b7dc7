"""Choosing and ordering rows by what is in them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from analysis.row import COLUMNS, HPARAM, RESULT, Row
from foundations.errors import UsageError, did_you_mean
from foundations.step import Step

Where = str | Mapping[str, Any]
"""`"strategy=snip10,status=complete"`, or `{"strategy": "snip10", "prune_fraction": [0.8, 0.9]}`.

Keys are columns, results and hyperparameters. All of them must hold; of several values for a key, one.
"""


def chosen(rows: Sequence[Row], where: Where | None) -> list[Row]:
    """Return the rows that have what `where` asks for, in their order.

    Numbers are compared as numbers (`1e-1` is 0.1, and so is what differs in its last digits only), steps as steps of
    the run (`3ep` is 69it), all else as text without regard to capitals.
    Raises: UsageError for a text that is not key=value, and for a key that no row has.
    """
    wanted = _wanted(where)
    _check_keys(wanted, rows, "where")
    return [row for row in rows if all(any(_is_same(row, key, one) for one in wanted[key]) for key in wanted)]


def ordered(rows: Sequence[Row], key: str, *, descending: bool) -> list[Row]:
    """Return the rows by a column, result or hyperparameter: numbers before texts, and those that lack it last.

    Raises: UsageError for a key that no row has.
    """
    _check_keys([key], rows, "sort")
    having = [row for row in rows if row.value(key) is not None]
    lacking = [row for row in rows if row.value(key) is None]

    def order(row: Row) -> tuple[bool, float, str]:
        value = row.value(key)
        is_text = not isinstance(value, int | float)
        return is_text, 0.0 if is_text else float(value), str(value)

    return [*sorted(having, key=order, reverse=descending), *lacking]


def _wanted(where: Where | None) -> dict[str, list[Any]]:
    """Return, by key, the values of which a row must have one."""
    wanted: dict[str, list[Any]] = {}
    if isinstance(where, str):
        for part in filter(None, where.split(",")):
            key, equals, value = part.partition("=")
            if not equals or not key:
                raise UsageError(
                    f"'{where}' is not key=value, such as model=cifar_resnet_20 or status=complete.", "where"
                )
            wanted.setdefault(key, []).append(value)
        return wanted
    for key, value in (where or {}).items():
        wanted[key] = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    return wanted


def _check_keys(keys: Collection[str], rows: Sequence[Row], argument: str) -> None:
    if not keys or not rows:
        return
    hparams = set(itertools.chain.from_iterable(row.hyperparameters for row in rows))
    results = set(itertools.chain.from_iterable(row.results for row in rows))
    prefixed = {*(HPARAM + name for name in hparams), *(RESULT + name for name in results)}
    known = {*COLUMNS, *hparams, *results}
    for key in keys:
        if key not in known | prefixed:
            raise UsageError(
                f"no run has a '{key}'.{did_you_mean(key, known)} Choose from {', '.join(COLUMNS)}, "
                "or any hyperparameter or result.",
                argument,
            )


def _is_same(row: Row, key: str, wanted: Any) -> bool:
    found = row.value(key)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return str(found).lower() == str(wanted).lower() or _is_same_step(found, wanted, row)
    try:
        number = float(wanted)
    except (TypeError, ValueError):
        return False
    # The level of a lottery is 1 - 0.8^n: nobody types its last digits. Whole numbers, such as seeds, are exact.
    return found == number if isinstance(found, int) else math.isclose(found, number, rel_tol=1e-9)


def _is_same_step(found: Any, wanted: Any, row: Row) -> bool:
    if not (isinstance(found, str) and found.endswith("it") and isinstance(wanted, str) and "ep" in wanted):
        return False
    try:
        return found == str(Step.parse(wanted, row.iterations_per_epoch))
    except UsageError:
        return False
