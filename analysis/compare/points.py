"""Points: the replicates of an experiment, with their mean and spread. Imports no torch.

A mean is over the replicates of one experiment. Runs that are incomplete, unreadable or without the value are excluded
and listed. Runs that differ in anything but their replicate are averaged only if `over` names the difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from analysis.rows.result_value import DAMAGED, Value
from analysis.rows.run_row import Row
from foundations.description.address import MAIN
from foundations.errors import DamagedError, OpenPruneError, UsageError, invalid
from foundations.plugins.plugins import is_loaded
from foundations.registry import plugins_of

K = TypeVar("K")
LEVELS = ("sparsity", "density", "compression")
"""Keys for the share of prunable weights that are left, from achieved counts."""
SPREADS = {
    "std": "standard deviation",
    "sem": "standard error of the mean",
    "minmax": "lowest and highest value",
    "ci95": "95% confidence interval of the mean",
}
"""Names of spreads. Standard deviations divide by n - 1; confidence intervals use Student's t."""
DENSE = "dense"
GRID = "grid"
"""The key of a row's grid, for rows of a sweep (`cli.commands.paper`)."""
Key = str | float | bool | None


@dataclass(frozen=True)
class LeftOut:
    """A run that matches but is excluded."""

    row: Row
    why: str
    error: UsageError | None = None
    """The error that computing its value raised."""


@dataclass(frozen=True)
class Point:
    """The replicates of an experiment, with their mean and spread."""

    keys: tuple[Key, ...]
    """The values of the keys that group the runs."""
    is_dense: bool
    """Whether its runs are the dense trainings that the other points prune."""
    rows: tuple[Row, ...] = ()
    """The runs that count, by replicate."""
    values: tuple[float, ...] = ()
    """The value of each of them."""
    left_out: tuple[LeftOut, ...] = ()
    """Runs of the same experiment that do not count."""
    differing: Mapping[str, list[str]] = field(default_factory=dict)
    """The differences of the runs if they are several experiments: the values of each name, as text."""

    @property
    def n(self) -> int:
        """The number of runs that count."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The mean of the values; None where there are none, or they are of different experiments."""
        return statistics.fmean(self.values) if self.values and not self.differing else None

    @property
    def density(self) -> float | None:
        """The mean of the achieved fractions of prunable weights that are left, from 0 to 1; 1 for dense networks."""
        found = [1 - (row.sparsity or 0.0) for row in self.rows]
        return statistics.fmean(found) if found else None

    @property
    def members(self) -> list[Row]:
        """All its runs: those that count, then those that do not."""
        return [*self.rows, *(each.row for each in self.left_out)]

    def half_width(self, spread: str) -> float | None:
        """Return the number after ±; None for fewer than two values, for different experiments, and for minmax.

        spread: one of SPREADS. Raises: UsageError for any other.
        """
        if spread not in SPREADS:
            raise invalid(spread, "spread", SPREADS)
        if self.n < 2 or self.differing or spread == "minmax":
            return None
        std = statistics.stdev(self.values)
        if spread == "std":
            return std
        sem = std / math.sqrt(self.n)
        return sem if spread == "sem" else sem * _student_t(self.n - 1)

    def interval(self, spread: str) -> tuple[float, float] | None:
        """Return the lower and upper end of the mean's spread; None where `half_width` has no values for it."""
        half = self.half_width(spread)
        if self.n < 2 or self.differing:
            return None
        mean = statistics.fmean(self.values)
        return (min(self.values), max(self.values)) if half is None else (mean - half, mean + half)

    def summary(self, spread: str) -> dict[str, Any]:
        """Return mean, low and high end of its spread, n, the values and the addresses behind it, as columns.

        Where runs are in upstreams, these are a column as well.
        """
        low, high = self.interval(spread) or (None, None)
        texts = {"values": " ".join(map(repr, self.values)), "addresses": addresses_of(self.rows)}
        upstreams = " ".join(dict.fromkeys(row.upstream for row in self.rows if row.upstream is not None))
        texts |= {"upstreams": upstreams} if upstreams else {}
        return {"mean": self.mean, "low": low, "high": high, "n": self.n, **texts}

    def texts(self, spread: str, number: Callable[[float], str]) -> tuple[str, str]:
        """Return the mean and its spread as text: `± 0.12`, or `[97.10, 97.40]`; empty if there is none."""
        half, interval = self.half_width(spread), self.interval(spread)
        mean = "" if self.mean is None else number(self.mean)
        if interval is None:
            return mean, ""
        return mean, f"[{', '.join(map(number, interval))}]" if half is None else f"± {number(half)}"

    def __str__(self) -> str:
        parts = [
            f"{name} ({', '.join(values[:4])}{', ...' if len(values) > 4 else ''})"
            for name, values in self.differing.items()
        ]
        return f"The runs of {' '.join(map(str, self.keys)) or 'all'} differ in {', '.join(parts)}."


def points_of(
    rows: Sequence[Row], selected: Sequence[Row], by: Sequence[str], value: Value, over: Collection[str]
) -> tuple[list[Point], list[Row]]:
    """Group runs by their values of some keys, together with the trainings that they prune.

    rows: all runs under a root. selected: the runs to group, all readable.
    Returns the points of dense networks first, then by key (numbers ascending, texts in alphabetical order), and the
    incomplete trainings that the runs prune, whose dense reference is missing.
    """
    references, untrained = _references(selected, rows, by)
    not_meant = {row.run.location for row in untrained}
    has_branches = any(row.branch for row in selected)
    experiments: dict[tuple[bool, str, Key], list[Row]] = {}
    for row in {id(row): row for row in [*references, *selected]}.values():
        if row.run.location not in not_meant:
            is_dense = has_branches and not (row.branch or row.sparsity or row.makes_its_mask)
            experiments.setdefault((is_dense, row.digest, row.hyperparameters.get(GRID)), []).append(row)
    groups: dict[tuple[bool, tuple[Key, ...]], list[Row]] = {}
    for (is_dense, *_), replicates in experiments.items():
        groups.setdefault((is_dense, tuple(_key(replicates, name) for name in by)), []).extend(replicates)
    found = [_point(keys, is_dense, members, value, {*by, *over}) for (is_dense, keys), members in groups.items()]
    return sorted(found, key=lambda point: (not point.is_dense, [order(key) for key in point.keys])), untrained


def points_along(measured: Sequence[tuple[Row, Mapping[K, float]]]) -> dict[K, Point]:
    """Return a point for each key that all runs have, such as an epoch or a layer, in the order of the first run.

    measured: each run with its numbers by key.
    """
    shared = [key for key in measured[0][1] if all(key in values for _, values in measured)] if measured else []
    rows = tuple(row for row, _ in measured)
    return {key: Point((), False, rows, tuple(values[key] for _, values in measured)) for key in shared}


def differences(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the differences of some runs in hyperparameters, kind of branch and data: the values of each, as text."""
    columns: dict[str, list[Any]] = {
        "branch": [row.branch for row in rows],
        "fingerprint": [row.fingerprint and row.fingerprint[:8] for row in rows],
    }
    for name in dict.fromkeys(name for row in rows for name in row.hyperparameters):
        columns[name] = [row.hyperparameters.get(name) for row in rows]
    texts = {name: sorted(set(map(str, values))) for name, values in columns.items()}
    return {name: values for name, values in texts.items() if len(values) > 1}


def level(density: float, requested: float | None = None) -> float:
    """Return a density to three significant digits, so that replicates of one level meet.

    requested: the density that was asked for; it is returned where the achieved one is within 1% of it.
    """
    if requested is not None and math.isclose(density, requested, rel_tol=0.01):
        return requested
    return float(f"{density:.3g}")


def as_level(name: str, density: float) -> float:
    """Return the share of weights that is left as one of LEVELS, or in percent for `remaining`."""
    if name == "compression":
        return 1 / density if density else math.inf
    return {"remaining": 100 * density, "density": density, "sparsity": 1 - density}[name]


def addresses_of(rows: Sequence[Row]) -> str:
    """Return addresses that stay unique when runs are added: whole digests with replicates, separated by spaces."""
    return " ".join(f"{row.digest}/{row.replicate}" for row in rows)


def text_of(value: object) -> str:
    """Return a hyperparameter's value in the usual notation."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def reason_of(row: Row, error: OpenPruneError) -> str:
    """Return the reason for leaving out a run, from the error that it raised."""
    if isinstance(error, DamagedError):
        return DAMAGED
    reason = error.reason if isinstance(error, UsageError) else str(error)
    return _lacking_plugin(row) or reason.splitlines()[0].rstrip(".")


def _lacking_plugin(row: Row) -> str:
    """Return the reason for leaving out a run that needs a plug-in which is not loaded; empty for other runs."""
    try:
        record = row.run.record()
    except OpenPruneError:
        return ""
    needed = [*plugins_of(record), *plugins_of(record.get("main", {}))]
    return next((f"the plug-in {each.name} is not loaded" for each in needed if not is_loaded(each)), "")


def _differences(rows: Sequence[Row], ignored: Collection[str]) -> dict[str, list[str]]:
    """Return the differences of the runs' experiments, except `ignored`; empty for a single experiment."""
    experiments = list({(row.digest, row.fingerprint): row for row in rows}.values())
    if len(experiments) < 2:
        return {}
    found = differences(experiments) or {"the runs that they depend on": [row.address for row in experiments]}
    return {name: values for name, values in found.items() if name not in ignored}


def _point(
    keys: tuple[Key, ...], is_dense: bool, members: Sequence[Row], value: Value, ignored: Collection[str]
) -> Point:
    counted, values, left_out = [], [], []
    rows = {row.run.location: row for row in members}.values()  # each run counts once
    for row in sorted(rows, key=lambda row: (row.replicate, row.digest)):
        why, found, raised = row.status if row.status != "complete" else "", None, None
        if not why:
            try:
                found = value.of(row)
                why = f"without {value}" if found is None else "" if math.isfinite(found) else f"{value} is not finite"
            except OpenPruneError as error:
                why = reason_of(row, error)
                raised = error if isinstance(error, UsageError) and not _lacking_plugin(row) else None
        if why or found is None:
            left_out.append(LeftOut(row, why, raised))
        else:
            counted.append(row)
            values.append(found)
    point = Point(keys, is_dense, tuple(counted), tuple(values), tuple(left_out), _differences(counted, ignored))
    return _without_foreign(point, ignored) if point.differing else point


def _without_foreign(point: Point, ignored: Collection[str]) -> Point:
    """Return a point without the runs that need plug-ins which are not loaded, unless all of its runs do.

    Another project's runs under the same root must not end the comparison of those that are meant.
    """
    foreign = [LeftOut(row, why) for row in point.rows if (why := _lacking_plugin(row))]
    known = {each.row.location for each in foreign}
    own = [(row, value) for row, value in zip(point.rows, point.values, strict=True) if row.location not in known]
    if not foreign or not own:
        return point
    rows, values = zip(*own, strict=True)
    differing = _differences(rows, ignored)
    return replace(point, rows=rows, values=values, left_out=(*point.left_out, *foreign), differing=differing)


def _references(selected: Sequence[Row], rows: Sequence[Row], by: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Return the complete and the other dense trainings that the selected runs prune, if keys tell them apart."""
    if not {"strategy", *LEVELS}.intersection(by):
        return [], []
    wanted = {replace(row.run.location, name=MAIN) for row in selected if row.branch}
    found = [row for row in rows if row.run.location in wanted]
    complete = [row for row in found if row.status == "complete" and not row.sparsity]
    return complete, [row for row in found if row.status != "complete"]


def _key(replicates: Sequence[Row], name: str) -> Key:
    """Return an experiment's value of a key. Replicates have the same hyperparameters."""
    first = replicates[0]
    if name in LEVELS:
        achieved = [row.sparsity for row in replicates if row.sparsity is not None]
        fraction = first.hyperparameters.get("prune_fraction") if first.branch else None
        requested = None if fraction is None else 1 - float(fraction)
        if not achieved and requested is None:
            density = first.requested_density or 1.0
        else:
            density = level(1 - statistics.fmean(achieved), requested) if achieved else requested or 0.0
        digits = 6 if name == "compression" else 12  # 1 - 0.9 is 0.1, as another run may have achieved
        return float(f"{as_level(name, density):.{digits}g}")
    if name == "strategy" and not first.branch and not any(row.sparsity for row in replicates):
        return DENSE
    found = first.value(name)
    return found if isinstance(found, str | int | float | bool | None) else str(found)


def order(key: Key) -> tuple[int, float, str]:
    """Return the sort key of a cell's key: numbers first, then texts, then missing values."""
    if key is None:
        return 2, 0.0, ""
    return (0, float(key), "") if isinstance(key, int | float) else (1, 0.0, key)


def _student_t(degrees: int) -> float:
    """Return the 97.5% quantile of Student's t, to 13 digits.

    A bisection for the angle whose interval holds 95%, by Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    is_odd = degrees % 2
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        term, inside = math.cos(angle) if is_odd else 1.0, 0.0
        for number in range(1 + is_odd, degrees, 2):
            inside += term
            term *= number / (number + 1) * math.cos(angle) ** 2
        inside *= math.sin(angle)
        if is_odd:
            inside = (inside + angle) * 2 / math.pi
        low, high = (angle, high) if inside < 0.95 else (low, angle)
    return math.sqrt(degrees) * math.tan(angle)
