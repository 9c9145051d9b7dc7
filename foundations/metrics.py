"""Metrics: their names, and the values of a run, `name,iteration,value` rows that any program can read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from foundations.errors import DamagedError
from foundations.registry import Registered, Registry

HEADER = "name,iteration,value"
PARTS = ("test_", "validation_", "train_", "selected_test_")
"""The prefixes of metrics: of the test set, of held out examples, of training batches, and of the test set where the
headline metric of held out examples is best."""

_MOST = 1e6


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric(Registered):
    """A metric of a task by name. Runs record it with a prefix: test_accuracy, validation_accuracy, train_accuracy."""

    label: str
    """Its name in figures and tables, such as 'accuracy' or 'R²'."""
    higher_is_better: bool = True
    is_fraction: bool = False
    """Whether values are fractions from 0 to 1, which tables show as percentages."""

    @property
    def best_by(self) -> str:
        """The name of its values on held out examples, which determine a run's best state."""
        return f"validation_{self.spelling}"

    @property
    def on_test(self) -> str:
        """The name of its values on the test set."""
        return f"test_{self.spelling}"


def written(value: float) -> str:
    """Return a value with four digits behind the point, or, from a million on, with four significant ones."""
    return f"{value:.4f}" if abs(value) < _MOST else f"{value:.4g}"


METRICS = Registry(
    Metric,
    "metric",
    (
        "datasets.tasks.classification",
        "datasets.tasks.multi_label",
        "datasets.tasks.regression",
        "datasets.tasks.language_modelling",
    ),
)


def headline_record(headline: Metric) -> dict[str, Any]:
    """Return the entry of a training's headline metric in its description, empty for accuracy."""
    if headline is METRICS.find("accuracy"):
        return {}
    return {"headline": {"name": headline.spelling, "higher_is_better": headline.higher_is_better}}


def headline_of(record: Mapping[str, Any]) -> Metric:
    """Return the headline metric of a run by its stored description, also where its plug-in is not loaded.

    Raises: KeyError or TypeError for a record of another form.
    """
    entry = record.get("main", record).get("headline")
    if entry is None:
        return METRICS.find("accuracy")
    name = str(entry["name"])
    if name in METRICS:
        return METRICS.find(name)
    return Metric(spelling=name, label=name.replace("_", " "), higher_is_better=bool(entry["higher_is_better"]))


def split_name(name: str) -> tuple[str, str]:
    """Return the prefix of a recorded metric, such as `test_`, and the rest; an empty prefix where it has none."""
    prefix = next((part for part in PARTS if name.startswith(part)), "")
    return prefix, name.removeprefix(prefix)


def metric_of(name: str) -> Metric | None:
    """Return the metric of a recorded name such as `test_accuracy`; None for losses and names that no task has."""
    own = split_name(name)[1]
    return METRICS.find(own) if own in METRICS else None


def is_better_higher(name: str) -> bool:
    """Return whether the highest value of a metric or another result is the best one."""
    metric = metric_of(name)
    return not name.endswith(("loss", "error", "seconds")) if metric is None else metric.higher_is_better


_SHARES = ("sparsity", "density", "effective_sparsity")
"""Results that are shares of the prunable weights."""


def is_fraction(name: str) -> bool:
    """Return whether a metric or another result lies between 0 and 1 and is shown in percent."""
    metric = metric_of(name)
    return name.endswith("accuracy") or name in _SHARES if metric is None else metric.is_fraction


def has_diverged(results: Mapping[str, float | None]) -> bool:
    """Return whether a loss among the results of a run is not a finite number, so that its other metrics mean little.

    results: None for a value that was not finite, as in a manifest.
    """
    return any(value is None and split_name(name)[1] == "loss" for name, value in results.items())


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

    def at_best(self, name: str, by: Metric) -> float | None:
        """Return the value of one metric where another is first best on held out examples; None if no step has both."""
        best = self._best(by, {step for n, step in self.values if n == name})
        return None if best is None else self.values[name, best]

    def best_iteration(self, by: Metric) -> int | None:
        """Return the first iteration where a metric is best on held out examples; None if it has no finite value."""
        return self._best(by, {step for _, step in self.values})

    def selected(self, headline: Metric) -> dict[str, float]:
        """Return the headline metric of the test set where that of held out examples is best, by its name."""
        found = self.at_best(headline.on_test, headline)
        return {} if found is None else {f"selected_{headline.on_test}": found}

    def _best(self, by: Metric, steps: Set[int]) -> int | None:
        """Return the first of some iterations where a metric is best, ignoring values that are not finite."""
        found = sorted(step for n, step in self.values if n == by.best_by and step in steps)
        finite = [step for step in found if math.isfinite(self.values[by.best_by, step])]
        sign = 1 if by.higher_is_better else -1
        return max(finite, key=lambda step: sign * self.values[by.best_by, step], default=None)

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
