"""The metrics of a run: `name,iteration,value` rows that any program can read."""

from __future__ import annotations

import math
from collections.abc import Set
from dataclasses import dataclass, field

from foundations.errors import DamagedError

HEADER = "name,iteration,value"
BEST_BY = "validation_accuracy"
"""The metric that determines the best state of a run."""


@dataclass
class Metrics:
    """Measured values by name and iteration. A value that is measured again replaces the earlier one."""

    values: dict[tuple[str, int], float] = field(default_factory=dict)

    def add(self, name: str, iteration: int, value: float) -> None:
        """Record a value."""
        self.values[name, iteration] = value

    def last(self, name: str) -> float | None:
        """Return the value at the highest iteration, or None where there is none."""
        found = [(iteration, value) for (n, iteration), value in self.values.items() if n == name]
        return max(found)[1] if found else None

    def at_best(self, name: str, by: str) -> float | None:
        """Return the value of one metric where another is first highest; None if no iteration has both."""
        best = self._highest(by, {step for n, step in self.values if n == name})
        return None if best is None else self.values[name, best]

    def best_iteration(self, by: str) -> int | None:
        """Return the first iteration where a metric is highest, or None if it has no finite value."""
        return self._highest(by, {step for _, step in self.values})

    def _highest(self, by: str, steps: Set[int]) -> int | None:
        """Return the first of some iterations where a metric is highest, ignoring values that are not finite."""
        found = sorted(step for n, step in self.values if n == by and step in steps)
        finite = [step for step in found if math.isfinite(self.values[by, step])]
        return max(finite, key=lambda step: self.values[by, step], default=None)

    def names(self) -> list[str]:
        """Return the names that have values, sorted."""
        return sorted({name for name, _ in self.values})

    def to_csv(self) -> str:
        """Return the rows as text, in order of iteration, then name; floats in their shortest exact form."""
        rows = sorted(self.values.items(), key=lambda row: (row[0][1], row[0][0]))
        return "\n".join([HEADER, *(f"{name},{iteration},{value!r}" for (name, iteration), value in rows)]) + "\n"

    @classmethod
    def from_csv(cls, text: str) -> Metrics:
        """Read what `to_csv` wrote. Raises: DamagedError for anything else."""
        lines = text.splitlines()
        try:
            if lines[0] != HEADER:
                raise ValueError(lines[0])
            cells = (line.split(",") for line in lines[1:])
            return cls({(name, int(iteration)): float(value) for name, iteration, value in cells})
        except (ValueError, IndexError) as error:
            raise DamagedError(f"metrics.csv is damaged ({error}).") from error
