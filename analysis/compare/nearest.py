"""The stored run that is most similar to a missing one. Imports no torch.

The hyperparameters in the index of rows rank the runs; then the descriptions of the most similar ones are compared.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.compare.described import Described
from analysis.compare.differences import Difference, differences
from analysis.rows.row_index import remembered_groups, without_collector
from analysis.rows.run_row import Row, row_of
from foundations.description.address import Location
from foundations.description.desc import hyperparameter_groups
from foundations.errors import OpenPruneError
from foundations.storage.run import Run
from foundations.storage.store import all_names

_WEIGHTS = {"dataset_name": 6.0, "model_name": 6.0, "kind": 6.0, "strategy": 2.0, "technique": 2.0}
_LIGHT = {"seed": 0.5, "data_order_seed": 0.5, "technique_seed": 0.5, "initialization": 0.5, "replicate": 0.5}
_OTHER_KIND = 8.0
_COMPARED, _LOOKED_AT = 12, 100
"""The number of runs whose descriptions are compared, and the most candidates that are tried for them."""
_NOTHING = (None, False, 0, "0it", "")
_STEP = re.compile(r"(\d+)it", re.ASCII)
Groups = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Nearest:
    """A run, and its differences from the requested one."""

    row: Row
    differences: tuple[Difference, ...]
    """The value of the stored run comes first."""


def nearest(asked: Described, root: Path) -> Nearest | None:
    """Return the run under a root that differs least from a description; None if no other run can be read."""
    with without_collector():
        ranked = _ranked(asked, root)
    found: list[tuple[float, int, Nearest]] = []
    for place, location in enumerate(ranked):
        row = row_of(Run(root, location))
        if not row.is_readable:
            continue
        try:
            between = tuple(differences([Described.stored(row.run), asked]))
        except OpenPruneError:
            continue
        weight = sum(_distance(each.name.rpartition(".")[2], *each.values) for each in between)
        weight += 0.0 if row.status == "complete" else 0.25
        found.append((weight, place, Nearest(row, between)))
        if len(found) == _COMPARED:
            break
    return min(found, key=lambda each: each[:2])[2] if found else None


def _ranked(asked: Described, root: Path) -> list[Location]:
    """Return the locations of the other runs with the most similar hyperparameters, the nearest first."""
    scale = _Scale(asked.hyperparameters)
    pool, remembered = remembered_groups(root)
    scored: list[tuple[float, str]] = []
    parents: dict[str, float] = {}
    own = str(asked.location)
    for name in all_names(root):
        if name == own:
            continue
        distance = scale.of_numbers(remembered[name], pool) if name in remembered else None
        if distance is None:
            location = Location.parse(name)
            groups = _read_groups(Run(root, location)) if location else None
            distance = None if groups is None else scale.of(groups)
        if distance is not None:
            folder, _, last = name.rpartition("/")
            kind = f"{folder[:7]}{last[:-32]}"
            for part in (folder, kind):
                if part not in parents:
                    parents[part] = _of_folder(name, asked.location) if part is folder else _of_kind(kind, own)
            scored.append((distance + parents[folder] + parents[kind], name))
    return [location for _, name in heapq.nsmallest(_LOOKED_AT, scored) if (location := Location.parse(name))]


class _Scale:
    """Distances of groups of hyperparameters from wanted values. Looks at each group and each set of names once."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self._wanted = wanted
        self._numbered: dict[int, tuple[float, int]] = {}
        self._schemas: dict[tuple[str, ...], int] = {}
        self._lacking: dict[tuple[int, ...], float] = {}

    def of_numbers(self, numbers: Sequence[int], pool: Sequence[Any]) -> float | None:
        """Return the distance of a run, from the numbers of its groups in a pool; None if they are not valid."""
        known = self._numbered
        try:
            for number in numbers:
                if number not in known:
                    known[number] = self._of_group(pool[number])
            parts = [known[number] for number in numbers]
        except (TypeError, AttributeError, IndexError):  # an index of another form
            return None
        return sum([part[0] for part in parts]) + self._of_lacking(tuple([part[1] for part in parts]))

    def of(self, groups: Groups) -> float:
        """Return the distance of a run with some groups."""
        parts = [self._of_group(group) for group in groups]
        return sum(part[0] for part in parts) + self._of_lacking(tuple(part[1] for part in parts))

    def _of_group(self, group: Mapping[str, Any]) -> tuple[float, int]:
        distance = sum(_distance(name, value, self._wanted.get(name)) for name, value in group.items())
        return distance, self._schemas.setdefault(tuple(group), len(self._schemas))

    def _of_lacking(self, schemas: tuple[int, ...]) -> float:
        if schemas not in self._lacking:
            names = {name for group, number in self._schemas.items() if number in schemas for name in group}
            lacking = (_distance(name, None, value) for name, value in self._wanted.items() if name not in names)
            self._lacking[schemas] = sum(lacking)
        return self._lacking[schemas]


def _read_groups(run: Run) -> Groups | None:
    try:
        return hyperparameter_groups(run.record())
    except (OpenPruneError, OSError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _of_folder(name: str, other: Location) -> float:
    """Return the distance of two runs by their folders: another replicate, another training."""
    training, replicate, _ = name.split("/")
    same_replicate = replicate == f"replicate_{other.replicate}"
    return (0.0 if same_replicate else _LIGHT["replicate"]) + (0.0 if training == other.training else 0.1)


def _of_kind(kind: str, own: str) -> float:
    """Return the distance of two runs by their kinds, from the beginnings of their names."""
    folder, _, last = own.rpartition("/")
    return 0.0 if kind == f"{folder[:7]}{last[:-32]}" else _OTHER_KIND


def _distance(name: str, one: Any, other: Any) -> float:
    """Return the distance of two values of a hyperparameter, from 0 to slightly more than its weight."""
    if one == other or (one in _NOTHING and other in _NOTHING):
        return 0.0
    weight = _WEIGHTS.get(name, _LIGHT.get(name, 1.0))
    numbers = _number(one), _number(other)
    if numbers[0] is None or numbers[1] is None:
        return weight * 1.1
    total = abs(numbers[0]) + abs(numbers[1])
    return weight * (1 + 0.1 * abs(numbers[0] - numbers[1]) / total) if total else weight


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    step = _STEP.fullmatch(value) if isinstance(value, str) else None
    return float(step[1]) if step else None
