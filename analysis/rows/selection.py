"""Selecting and sorting rows by their values."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

from analysis.rows.conditions import EQUAL, Where, as_number, conditions_of
from analysis.rows.run_row import ACHIEVED, COLUMNS, HPARAM, REQUESTED, RESULT, Row
from foundations.errors import UsageError, did_you_mean
from foundations.metrics import METRICS

__all__ = ["Where", "check_names", "chosen", "ordered"]


def chosen(rows: Sequence[Row], where: Where | None) -> list[Row]:
    """Return the rows that meet `where`, in their order.

    Conditions are `key=value`, `!=`, `<`, `<=`, `>` and `>=`, separated by commas. All must hold; of several `=` for
    one key, one must. Numbers compare as numbers (`1e-1` is 0.1, 30% is 0.3, and a difference in the last digits is
    ignored), steps as steps of the run (`3ep` is 69it), ages as durations (`age<2h`), and all else as text, ignoring
    case, where * stands for any letters and ? for any one. A row without the value matches only `key=None`.
    Raises: UsageError for a text that is not a condition, for a key that no row has, and for an order of texts.
    """
    conditions = conditions_of(where)
    check_names([condition.key for condition in conditions], rows, "where")
    any_of: dict[str, list[int]] = {}
    for number, condition in enumerate(conditions):
        condition.check(rows)
        any_of.setdefault(condition.key if condition.sign == EQUAL else f"{number} alone", []).append(number)
    groups = [[conditions[number] for number in numbers] for numbers in any_of.values()]
    return [row for row in rows if all(any(each.holds(row) for each in group) for group in groups)]


def ordered(rows: Sequence[Row], key: str, *, descending: bool) -> list[Row]:
    """Return the rows by a column, result or hyperparameter: numbers and steps first, then texts, then no value.

    Raises: UsageError for a key that no row has.
    """
    check_names([key], rows, "sort")
    having = [row for row in rows if row.value(key) is not None]
    lacking = [row for row in rows if row.value(key) is None]

    def order(row: Row) -> tuple[bool, float, str]:
        value = row.value(key)
        number = as_number(value, row.iterations_per_epoch)
        return number is None, number or 0.0, str(value)

    return [*sorted(having, key=order, reverse=descending), *lacking]


def check_names(names: Collection[str], rows: Sequence[Row], argument: str, further: Sequence[str] = ()) -> None:
    """Check that some row has each of some columns, results or hyperparameters. Without rows, none is known.

    further: other names to choose from. Raises: UsageError about `argument` that lists the known names.
    """
    if not names or not rows:
        return
    hparams = set(itertools.chain.from_iterable(row.hyperparameters for row in rows))
    results = set(itertools.chain.from_iterable(row.results for row in rows))
    steps = set(itertools.chain.from_iterable(row.steps for row in rows))
    prefixed = {*(HPARAM + name for name in hparams), *(RESULT + name for name in results)}
    always = (*COLUMNS, *ACHIEVED, REQUESTED, *further)
    metrics = {row.headline.spelling for row in rows if row.is_readable}
    metrics |= {metric.spelling for metric in METRICS if metric.on_test in results}
    known = {*always, *hparams, *results, *steps, *metrics}
    for name in names:
        if name not in known | prefixed:
            others = ", ".join(sorted(results.difference(always))) or "no run is complete"
            raise UsageError(
                f"no run has a '{name}'.{did_you_mean(name, known)} Choose from {', '.join(always)}, any result "
                f"({others}), or any hyperparameter.",
                argument,
            )
