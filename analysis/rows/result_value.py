"""The value of a run that a table or figure shows: a metric or another result, and its step. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.rows.run_row import Row
from foundations.description.step import BEST, Step
from foundations.errors import UsageError, did_you_mean
from foundations.metrics import is_better_higher, is_fraction

MAX, MIN = "max", "min"
DAMAGED = "damaged, see `verify`"
CLOSED = "not open to you, see `verify`"
"""The reasons for leaving out a run that cannot be read."""
HOW_TO_WRITE_A_VALUE = (
    "a value is written like test_accuracy (at the end), test_accuracy@best (where the same metric of held out "
    "examples is best), test_accuracy@10ep, or test_accuracy@max (the highest of all steps)"
)


@dataclass(frozen=True)
class Value:
    """A result of runs by name, at the end or at a step."""

    name: str
    at: str = ""
    """Empty for the end; `best` for the step where the headline metric of held out examples is best; `max` or `min` for
    the highest or lowest value over all steps, which selects on the reported value; or a step such as `10ep`."""
    read: Callable[[Row], float | None] | None = None
    """A function that returns the value, such as the result of a measure, in place of a result or metric."""

    @classmethod
    def parse(cls, text: str) -> Value:
        """Read `test_accuracy`, `test_accuracy@best`, `test_accuracy@10ep` or `test_loss@min`.

        Raises: UsageError for anything else.
        """
        name, at_sign, at = text.partition("@")
        if not name or (at_sign and not at):
            raise UsageError(f"'{text}' cannot be read; {HOW_TO_WRITE_A_VALUE}.", "value")
        if at not in ("", BEST, MAX, MIN):
            Step.parse(at, 1, "value")
        return cls(name, at)

    @classmethod
    def of_runs(cls, text: str | None, rows: Sequence[Row]) -> Value:
        """Read a value; without a text, it is the headline metric of some runs, on the test set.

        Raises: UsageError for a text that cannot be read, or runs of tasks with different headline metrics.
        """
        if text is not None:
            return cls.parse(text)
        names = sorted({row.headline.on_test for row in rows if row.is_readable})
        if len(names) > 1:
            raise UsageError(f"the runs are of several tasks; choose from {', '.join(names)}.", "value")
        return cls(names[0] if names else "test_accuracy")

    def __str__(self) -> str:
        return f"{self.name}@{self.at}" if self.at else self.name

    @property
    def is_fraction(self) -> bool:
        """Whether it lies between 0 and 1 and is shown in percent."""
        return is_fraction(self.name)

    @property
    def is_better_higher(self) -> bool:
        """Whether the highest value is the best one."""
        return is_better_higher(self.name)

    def of(self, row: Row) -> float | None:
        """Return the value of a complete run; None if it has none, NaN if it was not a finite number.

        Raises: DamagedError if metrics.csv differs from the manifest, even if the value is a result: a run with a
        damaged file must not enter a mean silently.
        """
        if self.read is not None:
            return self.read(row)
        if not self.at:
            row.run.check_metrics()
            if self.name not in row.results:
                return None
            found = row.results[self.name]
            return math.nan if found is None else float(found)
        metrics = row.run.metrics()
        if self.at == BEST:
            return metrics.at_best(self.name, row.headline)
        if self.at in (MAX, MIN):
            measured = [value for (name, _), value in metrics.values.items() if name == self.name]
            finite = filter(math.isfinite, measured)
            return (max if self.at == MAX else min)(finite, default=math.nan) if measured else None
        return metrics.values.get((self.name, Step.parse(self.at, row.iterations_per_epoch, "value").iteration))

    def refuse_unknown(self, known: set[str]) -> None:
        """Raise UsageError if no run can have the value. known: the names of results that some run has."""
        if known and self.name not in known and self.read is None:
            choices = ", ".join(sorted(known))
            raise UsageError(f"no run has '{self}'.{did_you_mean(self.name, known)} Choose from {choices}.", "value")
