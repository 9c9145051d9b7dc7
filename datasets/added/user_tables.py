"""Users' tables (CSV, Parquet, saved Hugging Face datasets): rows of numbers and categories with targets.

A table is read in chunks, several times: for the kinds of its columns, for targets and categories, and for its cells.
So its size is limited by the disk. Columns of numbers become one feature each, columns of categories one feature for
each category, which is 1 in the rows that have it (in the order of columns, then of categories).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.added.class_names import listed_names
from datasets.added.options import MEAN, MEDIAN, REFUSE, AddOptions, Report, names_in
from datasets.added.targets import Column, Parts, make_targets
from datasets.formats.content import Content, mean_and_std, scratch_array
from datasets.formats.source_files import Arrays
from datasets.formats.tables import ARRAYS, MIXED, NUMBERS, TEXTS, Kind, Table, shortened
from datasets.prepared import SPLITS
from foundations.errors import UsageError, choose_from
from foundations.inputs import SERIES, VECTORS

_MOST_CATEGORIES = 1_000
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
_MISSING = "(missing)"
"""The category of empty cells."""
Tables = Mapping[str, Table]
"""`train`, and `test` where there is such a table."""


@dataclass
class Roles:
    """The columns of a table, by their use."""

    targets: list[str]
    features: list[str]
    kinds: dict[str, Kind]
    categories: dict[str, list[str]] = field(default_factory=dict)
    """The categories of each column that has some, in their order."""

    @property
    def feature_names(self) -> list[str]:
        """The name of each feature: the column's, or `column=category`."""
        return [
            f"{name}={each}" if each is not None else name
            for name in self.features
            for each in self.categories.get(name, [None])
        ]


def read_tables(tables: Tables, options: AddOptions, scratch: Path, report: Report) -> Content:
    """Return the content of tables of numbers, categories or arrays. scratch: the folder of temporary files.

    Raises: UsageError that names the file, and the row where there is one.
    """
    options.refuse("a table of numbers", "vocabulary", "tokenizer", "augmentation", "image_size", "stream")
    roles = find_roles(tables, options)
    where = tables["train"].path
    if not roles.features:
        raise UsageError(f"{where} has no columns besides the target; there is nothing to predict it from.")
    arrays = [name for name in roles.features if roles.kinds[name].name == ARRAYS]
    if arrays and len(roles.features) > 1:
        others = [name for name in roles.features if name != arrays[0]]
        raise UsageError(f"{where}: column '{arrays[0]}' holds arrays; leave out {listed_names(others)} with --ignore.")
    read = {split: target_columns(table, roles, options) for split, table in tables.items()}
    if not arrays:
        _find_categories(tables, roles, options)
    targets, parts = make_targets(read, options, where, report)
    report_read(roles, targets.task, report)
    if arrays:
        report(f"column {arrays[0]}: arrays of numbers; give --tokens={arrays[0]} if they are token ids")
        inputs, more = _arrays(tables, arrays[0], parts), {}
    else:
        inputs = _cells(tables, roles, parts, scratch)
        more = {
            "features": roles.feature_names,
            "categories": roles.categories,
            **_fill(inputs, roles, options, tables),
        }
    mean, std = mean_and_std(inputs["train"])
    if not arrays:
        _leave_categories(roles, mean, std)
    return content(inputs, targets.task, targets.splits, targets.class_names, mean, std, where, targets.facts, more)


def content(
    inputs: Mapping[str, NDArray[np.float32]],
    task: str,
    targets: Mapping[str, Mapping[str, NDArray[Any]]],
    class_names: tuple[str, ...],
    mean: Sequence[float],
    std: Sequence[float],
    where: Path,
    facts: Mapping[str, Any],
    more: Mapping[str, Any],
) -> Content:
    """Return the content of vectors or series. inputs: of each split, (N, F) or (N, C, T)."""
    shape = inputs["train"].shape[1:]
    source = f"added from {where.name}"
    return Content(
        {split: Arrays({"inputs": inputs[split], **targets[split]}, source, class_names) for split in SPLITS},
        task,
        VECTORS if len(shape) == 1 else SERIES,
        shape,
        mean,
        std,
        **{**facts, "more": {**facts.get("more", {}), **more}},
    )


def find_roles(tables: Tables, options: AddOptions, others: Sequence[str] = ()) -> Roles:
    """Return the use of each column. others: columns other than features, such as texts.

    Raises: UsageError for a column that does not exist, for a test table with other columns, and for columns of
    another kind.
    """
    train = tables["train"]
    ignored, targets, categorical = names_in(options.ignore), options.targets, names_in(options.categorical)
    for names, hparam in ((targets, "target"), (ignored, "ignore"), (categorical, "categorical")):
        train.need(names, hparam)
    twice = next((name for name in targets if name in ignored), None)
    if twice:
        raise UsageError(f"'{twice}' is a target, and ignored.", "ignore")
    if not targets and not others:
        raise UsageError(
            f"it is needed: the column of {train.path} to predict{choose_from('', train.columns)}", "target"
        )
    features = [name for name in train.columns if name not in (*targets, *ignored, *others)]
    kinds = train.kinds()
    if "test" in tables:
        _add_kinds(kinds, tables["test"], [*targets, *features, *others], train)
    for name in (*targets, *features):
        _check_kind(name, kinds[name], name in categorical, train.path)
    for name in categorical:
        kinds[name].declared = TEXTS
    return Roles(targets, features, kinds)


def _add_kinds(kinds: dict[str, Kind], test: Table, needed: Sequence[str], train: Table) -> None:
    missing = [name for name in needed if name not in test.columns]
    if missing:
        raise UsageError(f"{test.path} lacks the column {listed_names(missing)} of {train.path}.")
    for name, kind in test.kinds().items():
        if name in needed:
            known = kinds[name]
            if known.name != kind.name and (known.declared or kind.declared):
                raise UsageError(f"{test.path}: column '{name}' holds {kind.name}, in {train.path} {known.name}.")
            known.first_text = known.first_text if known.texts else kind.first_text
            known.numbers, known.texts = known.numbers + kind.numbers, known.texts + kind.texts


def _check_kind(name: str, kind: Kind, is_categorical: bool, path: Path) -> None:
    """Check that a column can be read; numbers with some texts among them are texts, if texts prevail."""
    if kind.name not in (NUMBERS, TEXTS, MIXED, ARRAYS):
        raise UsageError(f"{path}: column '{name}' holds {kind.name}, which is not read; name it in --ignore.")
    if kind.name == TEXTS and _DECIMAL_COMMA.fullmatch(kind.first_text[1]) and not is_categorical:
        row, cell = kind.first_text
        raise UsageError(
            f"{path}, row {row}: {shortened(cell)} in column '{name}' has a decimal comma; write a point, or give "
            f"--categorical={name}."
        )
    if kind.name == MIXED:
        if kind.numbers > kind.texts and not is_categorical:
            row, cell = kind.first_text
            raise UsageError(
                f"{path}, row {row}: {shortened(cell)} in column '{name}' is not a number, as most of its cells are; "
                f"correct it, or give --categorical={name} or --ignore={name}."
            )
        kind.declared = TEXTS


def target_columns(table: Table, roles: Roles, options: AddOptions) -> dict[str, Column]:
    """Return the targets of a table by name. Raises: UsageError that names the row of a missing target."""
    texts = [name for name in roles.targets if _is_text(table, name, roles)]
    if options.task == "regression":
        texts = [name for name in texts if roles.kinds[name].name == TEXTS]
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in roles.targets}
    for chunk in table.chunks(roles.targets, texts):
        for name in roles.targets:
            cells = chunk.cells[name]
            if cells.ndim > 1:
                raise UsageError(f"{table.path}: the target '{name}' holds arrays; it must hold numbers or texts.")
            if options.task != "multi_label" or cells.dtype != object:
                _refuse_missing(table, name, cells, chunk.rows, "the target is missing; remove the row")
            found[name].append(cells)
    if not any(map(len, found.values())):
        raise UsageError(f"{table.path} holds no rows.")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _is_text(table: Table, name: str, roles: Roles) -> bool:
    return roles.kinds[name].name == TEXTS or name in getattr(table, "class_names", {})


def _refuse_missing(table: Table, name: str, cells: NDArray[Any], rows: NDArray[np.int64], advice: str) -> None:
    wrong = np.flatnonzero(missing(cells) if cells.dtype == object else ~np.isfinite(cells))
    if len(wrong):
        at = wrong[0]
        if cells.dtype != object and not np.isnan(cells[at]):
            advice = f"{cells[at]} is not a finite number"
        raise UsageError(f"{table.path}, row {rows[at]}, column '{name}': {advice}.")


def missing(cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the texts that are missing, bool (N,)."""
    return np.fromiter((cell is None for cell in cells), bool, len(cells))


def _find_categories(tables: Tables, roles: Roles, options: AddOptions) -> None:
    """Set the categories of the features that are texts: those of both tables, sorted."""
    names = [name for name in roles.features if roles.kinds[name].name == TEXTS]
    distinct: dict[str, dict[str, None]] = {name: {} for name in names}
    for table in tables.values() if names else ():
        for chunk in table.chunks(names, names):
            for name in names:
                cells = chunk.cells[name]
                if options.missing == REFUSE:
                    _refuse_missing(table, name, cells, chunk.rows, _ADVICE)
                distinct[name].update(dict.fromkeys(_MISSING if cell is None else cell for cell in cells))
                if len(distinct[name]) > _MOST_CATEGORIES:
                    example = shortened(next(iter(distinct[name])))
                    raise UsageError(
                        f"{table.path}: column '{name}' holds more than {_MOST_CATEGORIES:,} different texts, such as "
                        f"{example}: too many categories; give --ignore={name} or --text={name}."
                    )
    roles.categories = {name: sorted(found) for name, found in distinct.items()}


_ADVICE = "the cell is empty; fill it, or give --missing=mean, median or zero"


def _cells(tables: Tables, roles: Roles, parts: Parts, scratch: Path) -> dict[str, NDArray[np.float32]]:
    """Return the features of each split, float32 (N, F), with NaN where numbers are missing."""
    width = len(roles.feature_names)
    inputs = {split: scratch_array((len(getattr(parts, split)), width), np.float32, scratch) for split in SPLITS}
    done = dict.fromkeys(SPLITS, 0)
    for split, block in _blocks(tables, roles, parts):
        inputs[split][done[split] : done[split] + len(block)] = block
        done[split] += len(block)
    return inputs


def _blocks(tables: Tables, roles: Roles, parts: Parts) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield consecutive rows of a split, as features."""
    for file, table in tables.items():
        is_test = np.full(len(parts.train), False) if parts.has_test_file else _mask(parts)
        first = 0
        for chunk in table.chunks(roles.features, list(roles.categories)):
            block = np.concatenate([_features(table, name, chunk, roles) for name in roles.features], 1)
            if parts.has_test_file:
                yield file, block
            else:
                held = is_test[first : first + len(block)]
                yield "train", block[~held]
                yield "test", block[held]
            first += len(block)


def _mask(parts: Parts) -> NDArray[np.bool_]:
    is_test = np.zeros(len(parts.train) + len(parts.test), bool)
    is_test[parts.test] = True
    return is_test


def _features(table: Table, name: str, chunk: Any, roles: Roles) -> NDArray[np.float32]:
    cells = chunk.cells[name]
    if name not in roles.categories:
        infinite = np.flatnonzero(np.isinf(cells) | (np.abs(cells) > np.finfo(np.float32).max))
        if len(infinite):
            at = infinite[0]
            raise UsageError(
                f"{table.path}, row {chunk.rows[at]}, column '{name}': {cells[at]:g} is not a finite number."
            )
        column: NDArray[np.float32] = cells.astype(np.float32)[:, None]
        return column
    place = {category: at for at, category in enumerate(roles.categories[name])}
    found = np.zeros((len(cells), len(place)), np.float32)
    found[np.arange(len(cells)), [place[_MISSING if cell is None else cell] for cell in cells]] = 1
    return found


def _fill(
    inputs: Mapping[str, NDArray[np.float32]], roles: Roles, options: AddOptions, tables: Tables
) -> dict[str, dict[str, float]]:
    """Fill in missing numbers, in place, from the training set; return the values by column, for the metadata."""
    filled = {}
    for place, name in enumerate(roles.feature_names):
        columns = {split: inputs[split][:, place] for split in SPLITS}
        holes = {split: np.isnan(column) for split, column in columns.items()}
        count = sum(int(each.sum()) for each in holes.values())
        if not count:
            continue
        if options.missing == REFUSE:
            raise _missing_cell(tables, name)
        known = np.asarray(columns["train"])[~holes["train"]].astype(np.float64)
        if not len(known) and options.missing != "zero":
            raise UsageError(f"{tables['train'].path}: column '{name}' has no value in the training set; ignore it.")
        value = (
            float(known.mean())
            if options.missing == MEAN
            else float(np.median(known))
            if options.missing == MEDIAN
            else 0.0
        )
        for split in SPLITS:
            columns[split][holes[split]] = value
        filled[name] = value
    return {"filled": filled} if filled else {}


def _missing_cell(tables: Tables, name: str) -> UsageError:
    for table in tables.values():
        for chunk in table.chunks([name]):
            wrong = np.flatnonzero(np.isnan(chunk.cells[name]))
            if len(wrong):
                return UsageError(f"{table.path}, row {chunk.rows[wrong[0]]}, column '{name}': {_ADVICE}.")
    raise AssertionError(name)


def _leave_categories(roles: Roles, mean: list[float], std: list[float]) -> None:
    """Leave features of categories as they are, 0 and 1, in place."""
    place = 0
    for name in roles.features:
        width = len(roles.categories.get(name, [name]))
        if name in roles.categories:
            mean[place : place + width], std[place : place + width] = [0.0] * width, [1.0] * width
        place += width


def _arrays(tables: Tables, name: str, parts: Parts) -> dict[str, NDArray[np.float32]]:
    """Return a column of arrays, float32 (N, F) or (N, C, T) of each split."""
    stacked = {}
    for split, table in tables.items():
        blocks = []
        for chunk in table.chunks([name]):
            wrong = np.flatnonzero(~np.isfinite(chunk.cells[name].reshape(len(chunk.rows), -1)).all(1))
            if len(wrong):
                raise UsageError(
                    f"{table.path}, row {chunk.rows[wrong[0]]}, column '{name}': not all numbers are finite."
                )
            blocks.append(chunk.cells[name].astype(np.float32))
        stacked[split] = np.concatenate(blocks)
    shapes = {array.shape[1:] for array in stacked.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) not in (1, 2):
        raise UsageError(
            f"{tables['train'].path}: column '{name}' holds arrays of {sorted(shapes)}; one or two axes are read."
        )
    test = stacked["test" if parts.has_test_file else "train"]
    return {"train": stacked["train"][parts.train], "test": test[parts.test]}


def report_read(roles: Roles, task: str, report: Report) -> None:
    """Report the targets, the task and the categories."""
    report(f"target {', '.join(roles.targets)}: {task}")
    for name, categories in roles.categories.items():
        count = f"{len(categories)} categor{'y' if len(categories) == 1 else 'ies'}"
        report(f"column {name}: {count}, {listed_names(categories)}")
