"""Groups of runs: the cells of a table or the points of a figure. Imports no torch.

A mean is over the replicates of one experiment. Runs that are incomplete, unreadable or without the value are excluded
and listed. Runs that differ in anything but their replicate are averaged only if `over` names the difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from analysis.rows.result_value import Value
from analysis.rows.run_row import Row
from analysis.rows.selection import Where, chosen
from foundations.description.address import MAIN
from foundations.errors import DamagedError, UsageError, did_you_mean

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


@dataclass(frozen=True)
class Mixed:
    """Experiments in one cell that differ in more than their replicate."""

    keys: tuple[Key, ...]
    differing: Mapping[str, list[str]]
    """The differences: the values of each name, as text."""

    def __str__(self) -> str:
        parts = [
            f"{name} ({', '.join(values[:4])}{', ...' if len(values) > 4 else ''})"
            for name, values in self.differing.items()
        ]
        return f"The runs of {' '.join(map(str, self.keys)) or 'all'} differ in {', '.join(parts)}."


@dataclass(frozen=True)
class Cell:
    """The replicates of an experiment, with their mean and spread."""

    keys: tuple[Key, ...]
    """The values of the keys that group the runs."""
    is_dense: bool
    """Whether its runs are the dense trainings that the other cells prune."""
    rows: tuple[Row, ...] = ()
    """The runs that count, by replicate."""
    values: tuple[float, ...] = ()
    """The value of each of them."""
    left_out: tuple[LeftOut, ...] = ()
    """Runs of the same experiment that do not count."""

    @property
    def n(self) -> int:
        """The number of runs that count."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """The mean of the values; None where there are none."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def density(self) -> float | None:
        """The mean of the achieved fractions of prunable weights that are left, from 0 to 1; 1 for dense networks."""
        found = [1 - (row.sparsity or 0.0) for row in self.rows]
        return statistics.fmean(found) if found else None

    def interval(self, spread: str) -> tuple[float, float] | None:
        """Return the lower and upper end of the mean's spread; None for fewer than two values.

        spread: one of SPREADS.
        """
        if self.n < 2:
            return None
        if spread == "minmax":
            return min(self.values), max(self.values)
        half, mean = self.half_width(spread), statistics.fmean(self.values)
        assert half is not None
        return mean - half, mean + half

    def summary(self, spread: str) -> dict[str, Any]:
        """Return mean, low and high end of its spread, n, the values and the addresses behind it, as columns."""
        low, high = self.interval(spread) or (None, None)
        texts = {"values": " ".join(map(repr, self.values)), "addresses": addresses_of(self.rows)}
        return {"mean": self.mean, "low": low, "high": high, "n": self.n, **texts}

    def half_width(self, spread: str) -> float | None:
        """Return the number after ±; None for fewer than two values. spread: std, sem or ci95."""
        if self.n < 2:
            return None
        std = statistics.stdev(self.values)
        if spread == "std":
            return std
        sem = std / math.sqrt(self.n)
        return sem if spread == "sem" else sem * _student_t(self.n - 1)


@dataclass(frozen=True)
class Cells:
    """Runs grouped by some keys."""

    by: tuple[str, ...]
    value: Value
    cells: tuple[Cell, ...]
    """Cells of dense networks first, then by key: numbers ascending, texts in alphabetical order."""
    left_out: tuple[LeftOut, ...]
    """All excluded runs, including runs with too little information to belong to a cell."""
    mixed: tuple[Mixed, ...]
    """Cells whose runs are different experiments."""
    untrained: tuple[Row, ...] = ()
    """Incomplete trainings that the runs prune: their dense reference is missing."""

    @cached_property
    def dense(self) -> tuple[Cell, ...]:
        """The cells of dense networks."""
        return tuple(cell for cell in self.cells if cell.is_dense)

    @cached_property
    def pruned(self) -> tuple[Cell, ...]:
        """All other cells."""
        return tuple(cell for cell in self.cells if not cell.is_dense)

    def refuse_mixed(self, argument: str) -> None:
        """Raise UsageError if a cell mixes experiments. argument: the flag that groups them."""
        if self.mixed:
            first, names = self.mixed[0], ", ".join(self.mixed[0].differing)
            raise UsageError(
                f"{first} Their mean would be of different experiments. Group by what they differ in, choose one value "
                f"with --where, or average on purpose with --over={names.replace(', ', ',')}.",
                argument,
            )

    def notes(self) -> list[str]:
        """Return the notes for a reader of the numbers, as sentences."""
        found = []
        reasons: dict[str, list[Row]] = {}
        for each in self.left_out:
            reasons.setdefault(each.why, []).append(each.row)
        for why, rows in reasons.items():
            found.append(f"Left out, {why}: {_addresses(rows)}.")
        if self.untrained:
            found.append(f"No dense reference, the training is not complete: {_addresses(self.untrained)}.")
        counts = {cell.n for cell in self.pruned if cell.n}
        if len(counts) > 1:
            found.append(f"The number of replicates differs: {min(counts)} to {max(counts)}.")
        found += _data_notes(row for cell in self.cells for row in cell.rows)
        return found


def cells(
    rows: Sequence[Row],
    by: Sequence[str],
    value: Value,
    *,
    where: Where | None = None,
    over: Collection[str] = (),
    flags: Mapping[str, str] | None = None,
) -> Cells:
    """Group runs by their values of some keys, together with the trainings that they prune.

    rows: the runs under a root. Those that `where` does not choose may still be needed, as the dense reference.
    by: columns, hyperparameters or results; `sparsity`, `density` and `compression` are from achieved counts.
    over: hyperparameters over which means are taken on purpose, such as `data_order_seed`.
    flags: by key, the argument that gives it, for errors.
    Raises: UsageError where a key or the value is unknown to all runs.
    """
    selected = [row for row in chosen(rows, where) if row.is_readable]
    _check_keys({**dict.fromkeys(by, ""), **dict.fromkeys(over, "over"), **(flags or {})}, selected)
    references, untrained = _references(selected, rows, by)
    unreadable = [LeftOut(row, "damaged, see `verify`") for row in rows if not row.is_readable]
    not_meant = {row.run.location for row in untrained}
    has_branches = any(row.branch for row in selected)
    experiments: dict[tuple[bool, str, Key], list[Row]] = {}
    for row in {id(row): row for row in [*references, *selected]}.values():
        if row.run.location not in not_meant:
            is_dense = has_branches and not row.branch and not row.sparsity
            experiments.setdefault((is_dense, row.digest, row.hyperparameters.get(GRID)), []).append(row)
    groups: dict[tuple[bool, tuple[Key, ...]], list[list[Row]]] = {}
    for (is_dense, *_), replicates in experiments.items():
        groups.setdefault((is_dense, tuple(_key(replicates, name) for name in by)), []).append(replicates)
    made = [_cell(keys, is_dense, found, value) for (is_dense, keys), found in groups.items()]
    made.sort(key=lambda cell: (not cell.is_dense, [_order(key) for key in cell.keys]))
    if not any(cell.n for cell in made):
        _refuse_unknown(value, selected)
    mixed = [
        Mixed(cell.keys, differing) for cell in made if (differing := _differences(cell.rows, ignored={*by, *over}))
    ]
    left_out = [*unreadable, *(each for cell in made for each in cell.left_out)]
    return Cells(tuple(by), value, tuple(made), tuple(left_out), tuple(mixed), tuple(untrained))


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


def names_in(text: str | None) -> tuple[str, ...]:
    """Return the names in a list separated by commas."""
    return tuple(filter(None, (name.strip() for name in (text or "").split(","))))


def addresses_of(rows: Sequence[Row]) -> str:
    """Return addresses that stay unique when runs are added: whole digests with replicates, separated by spaces."""
    return " ".join(f"{row.digest}/{row.replicate}" for row in rows)


def _differences(rows: Sequence[Row], ignored: Collection[str]) -> dict[str, list[str]]:
    """Return the differences of the runs' experiments, except `ignored`; empty for a single experiment."""
    experiments = list({(row.digest, row.fingerprint): row for row in rows}.values())
    if len(experiments) < 2:
        return {}
    found = differences(experiments) or {"the runs that they depend on": [row.address for row in experiments]}
    return {name: values for name, values in found.items() if name not in ignored}


def _cell(keys: tuple[Key, ...], is_dense: bool, experiments: Sequence[Sequence[Row]], value: Value) -> Cell:
    counted, values, left_out = [], [], []
    rows = {row.run.location: row for found in experiments for row in found}.values()  # each run counts once
    for row in sorted(rows, key=lambda row: (row.replicate, row.digest)):
        why, found = row.status if row.status != "complete" else "", None
        if not why:
            try:
                found = value.of(row)
                why = f"without {value}" if found is None else "" if math.isfinite(found) else f"{value} is not finite"
            except DamagedError:
                why = "damaged, see `verify`"
        if why or found is None:
            left_out.append(LeftOut(row, why))
        else:
            counted.append(row)
            values.append(found)
    return Cell(keys, is_dense, tuple(counted), tuple(values), tuple(left_out))


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
            density = 1.0
        else:
            density = level(1 - statistics.fmean(achieved), requested) if achieved else requested or 0.0
        if name == "density":
            return float(f"{density:.12g}")  # 1 - 0.9 is 0.1, as another run may have achieved
        return (
            float(f"{1 - density:.12g}")
            if name == "sparsity"
            else math.inf
            if not density
            else float(f"{1 / density:.6g}")
        )
    if name == "strategy" and not first.branch and not any(row.sparsity for row in replicates):
        return DENSE
    found = first.value(name)
    return found if isinstance(found, str | int | float | bool | None) else str(found)


def _order(key: Key) -> tuple[int, float, str]:
    """Return the sort key of a cell's key: numbers first, then texts, then missing values."""
    if key is None:
        return 2, 0.0, ""
    return (0, float(key), "") if isinstance(key, int | float) else (1, 0.0, key)


def _check_keys(flags: Mapping[str, str], rows: Sequence[Row]) -> None:
    known = {"strategy", *LEVELS, *(name for row in rows for name in (*row.hyperparameters, *row.results))}
    for key, flag in flags.items():
        if rows and key not in known and all(row.value(key) is None for row in rows):
            raise UsageError(
                f"no run has a '{key}'.{did_you_mean(key, known)} "
                "A key is a column of `ls`, a hyperparameter or a result.",
                *filter(None, [flag]),
            )


def _refuse_unknown(value: Value, rows: Sequence[Row]) -> None:
    known = {name for row in rows for name in row.results}
    if known and value.name not in known:
        raise value.unknown(known)


def _data_notes(rows: Iterable[Row]) -> list[str]:
    fingerprints: dict[str, set[str]] = {}
    for row in rows:
        if row.data and row.fingerprint:
            fingerprints.setdefault(row.data, set()).add(row.fingerprint)
    return [
        f"Runs on {data} were computed from different data: fingerprints {', '.join(sorted(f[:8] for f in found))}."
        for data, found in fingerprints.items()
        if len(found) > 1
    ]


def _addresses(rows: Sequence[Row]) -> str:
    return ", ".join(row.address for row in rows[:6]) + (f" and {len(rows) - 6} more" if len(rows) > 6 else "")


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
