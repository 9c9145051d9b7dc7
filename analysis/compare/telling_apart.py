"""The hyperparameters that tell listed runs apart, beyond columns that are shown anyway. Imports no torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from analysis.compare.described import Described
from analysis.compare.differences import HYPERPARAMETER, differ, differences, in_epochs
from analysis.rows.run_row import Row
from foundations.errors import OpenPruneError

_SHOWN = {"model_name": "model", "dataset_name": "data", "strategy": "strategy", "technique": "technique"}
"""Hyperparameters with a column of their own."""
_LEVELS = ("prune_fraction", "density", "compression")
_NOTHING = (None, False, "", "0it")
_MISSING: Any = object()
_FEW = 12
"""The most runs whose descriptions are compared if nothing else tells them apart."""
Key = tuple[Any, ...]
"""Kinds, network, data, strategy and techniques."""
_MOST_GROUPS = 40
_USUAL, _FEWEST_USUAL = 0.7, 4
"""The least share and number of runs that share a value for it to be printed once for all."""


def told_apart(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return, for each run, the values that tell it apart, by name: hyperparameters, else steps, else lineage.

    Omits the network, data, strategy and techniques, values that follow from network and data, such as a recipe's batch
    size, and the level of runs with a known sparsity.
    """
    keys = [(row.kinds, *(row.hyperparameters.get(name) for name in _SHOWN)) for row in rows]
    found: list[dict[str, Any]] = [{} for _ in rows]
    for name in _varying(rows, keys):
        if name not in _SHOWN:
            _add(found, name, [row.hyperparameters.get(name, _MISSING) for row in rows], rows, keys)
    for name in dict.fromkeys(itertools.chain.from_iterable(row.steps for row in rows)):
        _add(found, name, [row.steps.get(name, _MISSING) for row in rows], rows, keys)
    for row, own in zip(rows, found, strict=True):
        if own.get("start_step") == own.get("state_step"):
            own.pop("start_step", None)
        if row.sparsity is not None:
            for name in _LEVELS:
                own.pop(name, None)
    _add_lineage(found, rows, keys)
    return found


def abridged(
    apart: Sequence[Mapping[str, Any]], *, is_usual_apart: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Shorten the values that tell runs apart: drop None, False and 0it, and values that most runs share.

    is_usual_apart: whether to return the shared values, by name, as the second result; otherwise each run keeps its
    own. A run without a value that most runs have keeps that absence.
    """
    usual = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(apart)) if is_usual_apart else ():
        values = Counter(each[name] for each in apart if name in each)
        value, number = values.most_common(1)[0]
        if value not in _NOTHING and number >= _FEWEST_USUAL and number >= _USUAL * sum(values.values()):
            usual[name] = value
    spare = []
    for each in apart:
        own = {name: value for name, value in each.items() if name not in usual or value != usual[name]}
        spare.append({name: value for name, value in own.items() if name in usual or value not in _NOTHING})
    return spare, usual


def _varying(rows: Sequence[Row], keys: Sequence[Key]) -> list[str]:
    """Return the hyperparameters that may have several values, or that some runs of a kind lack.

    Looks at each group once, since most of thousands of runs share their groups.
    """
    known: dict[int, tuple[Mapping[str, Any], frozenset[str]]] = {}
    names_of: dict[Hashable, set[frozenset[frozenset[str]]]] = {}
    for row, key in zip(rows, keys, strict=True):
        groups = row.groups or (row.hyperparameters,)
        for group in groups:
            if id(group) not in known:
                known[id(group)] = group, frozenset(group)
        names_of.setdefault(key, set()).add(frozenset([known[id(group)][1] for group in groups]))
    values: dict[str, set[Any]] = {}
    for group, _ in known.values():
        for name, value in group.items():
            values.setdefault(name, set()).add(value)
    lacked: set[str] = set()
    for schemas in names_of.values():
        if len(schemas) > 1:
            sets = [frozenset(itertools.chain.from_iterable(schema)) for schema in schemas]
            lacked |= frozenset.union(*sets) - frozenset.intersection(*sets)
    return [name for name, distinct in values.items() if len(distinct) > 1 or name in lacked]


def _add(
    found: Sequence[dict[str, Any]], name: str, values: Sequence[Any], rows: Sequence[Row], keys: Sequence[Key]
) -> None:
    """Add the values of a name if they differ and do not follow from the columns."""
    distinct = set(values) - {_MISSING}
    if len(distinct) < 2 and not (distinct and _is_added_later(name, values, rows, keys)):
        return
    having = [(value, row) for value, row in zip(values, rows, strict=True) if value is not _MISSING]
    per_epoch = [row.iterations_per_epoch for _, row in having]
    if len(distinct) > 1 and not differ([value for value, _ in having], per_epoch):
        return
    by_network: dict[Hashable, Any] = {}
    networks = (key[:3] for key in keys)
    if all(by_network.setdefault(key, value) == value for key, value in zip(networks, values, strict=True)):
        return
    for own, value, row in zip(found, values, rows, strict=True):
        if value is not _MISSING:
            own[name] = in_epochs(value, row.iterations_per_epoch)


def _is_added_later(name: str, values: Sequence[Any], rows: Sequence[Row], keys: Sequence[Key]) -> bool:
    """Return whether some runs lack a hyperparameter that others of their kind have, with an effective value."""
    lacking = {key for key, value in zip(keys, values, strict=True) if value is _MISSING}
    if not lacking:
        return False
    having = next(
        (row for row, key, value in zip(rows, keys, values, strict=True) if value is not _MISSING and key in lacking),
        None,
    )
    if having is None:
        return False
    try:
        return Described.stored(having.run).is_written(name)
    except (OpenPruneError, OSError):
        return False


def _add_lineage(found: Sequence[dict[str, Any]], rows: Sequence[Row], keys: Sequence[Key]) -> None:
    """Add differences in the descriptions of runs that look alike otherwise, such as their parents or plug-ins."""
    groups: dict[Hashable, list[int]] = {}
    for number, (row, own, key) in enumerate(zip(rows, found, keys, strict=True)):
        if row.is_readable:
            level = None if row.sparsity is None else f"{row.sparsity:.4f}"
            groups.setdefault((key, level, row.replicate, tuple(own.items())), []).append(number)
    alike = [numbers for numbers in groups.values() if 1 < len(numbers) <= _FEW]
    for numbers in alike[:_MOST_GROUPS]:
        try:
            described = [Described.stored(rows[number].run) for number in numbers]
        except (OpenPruneError, OSError):
            continue
        for each in differences(described):
            if each.kind != HYPERPARAMETER or "." in each.name:
                for number, value in zip(numbers, each.values, strict=True):
                    if value not in _NOTHING:
                        found[number][each.name] = value


def shortened(value: Any) -> str:
    """Return a value as a short text: six digits of a number, the beginning of a digest."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return f"{text[:12]}..." if len(text) >= 32 and all(letter in "0123456789abcdef" for letter in text) else text
