"""Conditions on rows, in the syntax of `--where`: `density<0.3`, `strategy=snip*`, `age<2h`. Imports no torch."""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.rows.run_row import STATUSES, Row
from foundations.amounts import SECONDS, as_seconds
from foundations.description.step import HOW_TO_WRITE_A_STEP, Step
from foundations.errors import UsageError, choose_from
from foundations.metrics import is_fraction

Where = str | Mapping[str, Any]
"""`"strategy=snip10,density<0.3"`, or `{"strategy": "snip10", "prune_fraction": [0.8, 0.9]}`.

Keys are columns, results and hyperparameters. All keys must match; of several values for a key, one must.
"""

ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
EQUAL, UNEQUAL = "=", "!="
_CONDITION = re.compile(r"\s*(?P<key>[^<>=!]*[^<>=!\s])\s*(?P<sign><=|>=|!=|==?|<|>)\s*(?P<wanted>.*?)\s*", re.DOTALL)
_STEP = re.compile(r"(?=\d)(\d+ep)?(\d+it)?", re.ASCII)
_PART = re.compile(r"""(?:"[^"]*"|'[^']*'|[^,"']|["'])+""", re.DOTALL)
"""A condition: text without commas outside quotes."""
_QUOTES = ('"', "'")
_NOTHING = "none"
_DIGITS = 1e-9
"""The relative tolerance of equality: nobody types the last digits of 1 - 0.8^n."""


def _is_fraction(key: str) -> bool:
    """Return whether the values of a key are from 0 to 1."""
    return key == "prune_fraction" or is_fraction(key)


@dataclass(frozen=True)
class Condition:
    """A condition on one value of a row."""

    key: str
    sign: str
    """=, !=, <, <=, > or >=."""
    wanted: Any
    """The value to compare with: a text, or a Python value."""

    def holds(self, row: Row) -> bool:
        """Return whether a row meets the condition. A row without the value meets only `=None`."""
        found = row.value(self.key)
        if self.sign in ORDERS:
            return self._is_in_order(found, row)
        is_equal = _is_equal(found, self.wanted, row)
        is_for_nothing = str(self.wanted).lower() == _NOTHING
        return is_equal if self.sign == EQUAL else not is_equal and (found is not None or is_for_nothing)

    def _is_in_order(self, found: Any, row: Row) -> bool:
        pair = _numbers(found, str(self.wanted), row.iterations_per_epoch)
        if pair is None:
            return False
        if _close(*pair):
            return self.sign in ("<=", ">=")
        return ORDERS[self.sign](*pair)

    def check(self, rows: Iterable[Row]) -> None:
        """Raise UsageError if no value can meet the condition, or every value does, for any rows.

        So it refuses an order of texts, a percentage without its sign, and a status that does not exist.
        """
        number = _number(self.wanted)
        if _is_fraction(self.key) and number is not None and not -1 <= number <= 1:
            raise UsageError(f"{self}: '{self.key}' is from 0 to 1; write {self.wanted}% for a percentage.", "where")
        if self.key == "status" and not any(_is_like(status, str(self.wanted)) for status in STATUSES):
            raise UsageError(f"{self}: '{self.wanted}' is not a status{choose_from(self.wanted, STATUSES)}", "where")
        if self.sign not in ORDERS:
            return
        found = [value for row in rows if (value := row.value(self.key)) is not None]
        if found and all(_numbers(value, str(self.wanted), 1) is None for value in found):
            example = next(iter(found))
            if any(_is_number(value) or _is_step(value) for value in found):
                what = f"'{self.wanted}' cannot be compared with it; it has values such as {example}"
                raise UsageError(f"{self}: {what}.{self._how_to_write(example)}", "where")
            raise UsageError(f"{self}: '{self.key}' is a text, such as '{example}'; compare it by = or !=.", "where")

    def _how_to_write(self, example: Any) -> str:
        if _is_step(example):
            return f" {HOW_TO_WRITE_A_STEP.capitalize()}."
        if self.key == "age":
            return f" A duration is a number with one of {', '.join(SECONDS)}, such as 2h."
        return " A percentage is written like 30%." if _is_fraction(self.key) else ""

    def __str__(self) -> str:
        return f"{self.key}{self.sign}{self.wanted}"


def conditions_of(where: Where | None) -> list[Condition]:
    """Read conditions. Raises: UsageError for a text that is not a condition, and for anything else."""
    if isinstance(where, str):
        return [_read(part, where) for part in _PART.findall(where) if part.strip()]
    if not isinstance(where, Mapping | None):
        raise UsageError(f"it takes a text such as 'density<0.3', or a mapping, not {where!r:.60}.", "where")
    found = []
    for key, value in (where or {}).items():
        values = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
        found += [Condition(key, EQUAL, one) for one in values]
    return found


def _read(part: str, where: str) -> Condition:
    match = _CONDITION.fullmatch(part)
    if match is None:
        raise UsageError(
            f"'{where}' is not key=value, such as model=cifar_resnet_20, status=complete or density<0.3 "
            f"('{part.strip()}' has no =, !=, <, <=, > or >=; commas of a value need quotes).",
            "where",
        )
    wanted = match["wanted"]
    if wanted.startswith(("<", ">", "=", "!")):
        raise UsageError(f"'{part.strip()}' is not a condition; choose from =, !=, <, <=, >, >=.", "where")
    is_quoted = len(wanted) > 1 and wanted[0] == wanted[-1] and wanted[0] in _QUOTES
    if any(sign in wanted for sign in "<>=") and not is_quoted:
        raise UsageError(f"'{part.strip()}' is more than one condition; write commas between them.", "where")
    if not is_quoted and (wanted[:1] in _QUOTES or wanted[-1:] in _QUOTES):
        raise UsageError(f"'{part.strip()}' has a quote that is not closed.", "where")
    wanted = wanted[1:-1] if is_quoted else wanted
    sign = EQUAL if match["sign"] == "==" else match["sign"]
    if sign in ORDERS and not wanted:
        raise UsageError(f"'{part.strip()}' compares with nothing; write a number, a step or a duration.", "where")
    return Condition(match["key"], sign, wanted)


def _is_equal(found: Any, wanted: Any, row: Row) -> bool:
    if _is_number(found):
        number = _amount(wanted)
        if number is None:
            return False
        return found == number if isinstance(found, int) else _close(found, number)  # seeds are exact
    texts = str(found).lower(), str(wanted).lower()
    if texts[0] == texts[1] or (found == "" and texts[1] == _NOTHING):
        return True
    if found is None or isinstance(found, bool) or not isinstance(wanted, str):
        return False
    steps = str(found).split(","), wanted.split(",")
    if all(map(_is_step, steps[0])) and all(map(_is_step, steps[1])):
        first, second = ([_iteration(step, row.iterations_per_epoch) for step in each] for each in steps)
        return first == second
    return any(sign in wanted for sign in "*?") and _is_like(found, wanted)


def _is_like(found: Any, pattern: str) -> bool:
    """Return whether a text matches a pattern of * and ?, ignoring case."""
    return fnmatch.fnmatchcase(str(found).lower(), pattern.lower().replace("[", "[[]"))


def _numbers(found: Any, wanted: str, per_epoch: int) -> tuple[float, float] | None:
    """Return a row's value and the wanted value as numbers; None if they have no order."""
    if _is_step(found):
        number = _number(wanted)
        if number is None and _is_step(wanted):
            number = _iteration(wanted, per_epoch)
        return None if number is None else (_iteration(found, per_epoch), number)
    if not _is_number(found):
        return None
    other = _amount(wanted)
    return None if other is None else (float(found), other)


def as_number(value: Any, per_epoch: int) -> float | None:
    """Return a number as it is, and a step as its iteration; None for anything else."""
    if _is_step(value):
        return _iteration(value, per_epoch)
    return float(value) if isinstance(value, int | float) else None


def _number(wanted: Any) -> float | None:
    """Return the number in a text such as 1e-1 or 30%."""
    if isinstance(wanted, bool):
        return None
    text = str(wanted).strip()
    is_percentage = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number / 100 if is_percentage else number


def _amount(wanted: Any) -> float | None:
    """Return a number, or a duration in seconds."""
    seconds = as_seconds(str(wanted))
    return _number(wanted) if seconds is None else seconds


def _iteration(text: str, per_epoch: int) -> int:
    return Step.parse(text, per_epoch, "where").iteration


def _is_step(value: Any) -> bool:
    return isinstance(value, str) and bool(_STEP.fullmatch(value)) and value[-1:] in "pt" and _can_be_read(value)


def _can_be_read(text: str) -> bool:
    try:
        Step.parse(text, 1, "where")
    except UsageError:
        return False
    return True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_DIGITS)
