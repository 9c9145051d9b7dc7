"""The targets of added data, and the task that they pose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.added.class_names import check_class_names, listed_names, say_untested
from datasets.added.held_out import held_out
from datasets.added.options import AddOptions, Report
from datasets.formats.content import mean_and_std
from foundations.errors import UsageError

CLASSIFICATION, MULTI_LABEL, REGRESSION = "classification", "multi_label", "regression"
_MOST_CLASSES = 20
"""The most different whole numbers of a table that are taken for classes without being asked."""
_MOST_LABELS = 10_000
_MARKS = "|;"
"""The marks between several labels in one cell."""

Column = NDArray[Any]
"""Targets of one name: float64 (N,) or texts as objects (N,)."""


@dataclass(frozen=True)
class Targets:
    """The targets that are learned: the tensors of each split, and the facts about them."""

    task: str
    splits: dict[str, dict[str, NDArray[Any]]]
    """By split, `labels` or `targets`."""
    class_names: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """Fields of `Content`."""

    @property
    def summary(self) -> str:
        """The targets in a few words."""
        if self.task == MULTI_LABEL:
            return f"{len(self.class_names)} labels"
        if self.task == REGRESSION:
            count = self.facts["num_outputs"]
            return f"{count} target{'s' * (count != 1)}"
        return f"{len(self.class_names)} classes"


@dataclass(frozen=True)
class Parts:
    """The examples of each split, as numbers in what was read: the training file, or the test file."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    has_test_file: bool


def task_of(columns: Mapping[str, Sequence[Column]], options: AddOptions, where: object) -> str:
    """Return the task of targets, by the options or by their values. columns: by name, of each file.

    Raises: UsageError where it is unclear.
    """
    options.check_task(f"{where} with targets", CLASSIFICATION, MULTI_LABEL, REGRESSION)
    texts = [name for name, parts in columns.items() if any(part.dtype == object for part in parts)]
    if options.task == REGRESSION and texts:
        raise UsageError(f"{where}: column '{texts[0]}' holds texts; a regression needs numbers.", "target")
    if options.task is not None:
        if options.task == CLASSIFICATION and len(columns) > 1:
            raise UsageError(f"{where}: a classification has one target, not {len(columns)}.", "target")
        return options.task
    if len(columns) > 1:
        if texts:
            raise UsageError(f"{where}: column '{texts[0]}' holds texts; several targets must be numbers.", "target")
        found = np.concatenate([np.unique(part) for parts in columns.values() for part in parts])
        return MULTI_LABEL if np.isin(found, (0, 1)).all() else REGRESSION
    if texts:
        return CLASSIFICATION
    ((name, parts),) = columns.items()
    distinct = np.unique(np.concatenate(parts))
    if not (distinct == np.round(distinct)).all():
        return REGRESSION
    if len(distinct) > _MOST_CLASSES:
        raise UsageError(
            f"{where}: '{name}' holds {len(distinct)} different whole numbers; give --task=regression or "
            "--task=classification."
        )
    return CLASSIFICATION


def make_targets(
    files: Mapping[str, Mapping[str, Column]], options: AddOptions, where: object, report: Report
) -> tuple[Targets, Parts]:
    """Return the targets of both splits, and the examples of which they are.

    files: for `train`, and `test` where there is such a file, the columns by name. Raises: UsageError.
    """
    names = list(files["train"])
    task = task_of({name: [file[name] for file in files.values()] for name in names}, options, where)
    if task == CLASSIFICATION:
        return _classes({split: file[names[0]] for split, file in files.items()}, where, report)
    if task == MULTI_LABEL:
        values, labels = _indicators(files, where)
    else:
        stacked = {split: np.stack([file[name] for name in names], 1) for split, file in files.items()}
        values, labels = {split: each.astype(np.float32) for split, each in stacked.items()}, ()
    parts = random_parts(len(values["train"]), len(values["test"]) if "test" in values else None, where)
    splits = taken({"targets": values}, parts)
    facts: dict[str, Any] = {"num_outputs": values["train"].shape[1]}
    if task == REGRESSION:
        facts["target_mean"], facts["target_std"] = mean_and_std(splits["train"]["targets"])
        facts["more"] = {"target_names": names}
    return Targets(task, splits, labels, facts), parts


def taken(arrays: Mapping[str, Mapping[str, NDArray[Any]]], parts: Parts) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the examples of each split. arrays: by name, of each file."""
    test = "test" if parts.has_test_file else "train"
    return {
        "train": {name: files["train"][parts.train] for name, files in arrays.items()},
        "test": {name: files[test][parts.test] for name, files in arrays.items()},
    }


def random_parts(train: int, test: int | None, where: object) -> Parts:
    """Return the examples of each split; without a test file, a random tenth is held out. Raises: UsageError."""
    if test is not None:
        if min(train, test) < 1:
            raise UsageError(f"{where}: {'testing' if train else 'training'} has no examples.")
        return Parts(np.arange(train), np.arange(test), True)
    if train < 2:
        raise UsageError(f"{where} holds {train} example{'s' * (train != 1)}; training and testing need one each.")
    kept, held = held_out(np.zeros(train, np.int64), ["all"], where, lambda _: None)
    return Parts(kept, held, False)


def _classes(files: Mapping[str, Column], where: object, report: Report) -> tuple[Targets, Parts]:
    """Return classes, whose names are the values of the training file: numbers ascend, texts are in their order."""
    named = {split: _class_texts(column, where) for split, column in files.items()}
    distinct = sorted(set(named["train"]), key=lambda name: (_value(name), name))
    check_class_names(distinct, where)
    number_of = {name: number for number, name in enumerate(distinct)}
    unknown = sorted(set(named.get("test", ())) - set(distinct))
    if unknown:
        raise UsageError(f"{where}: the test set holds {listed_names(unknown)}, which the training set does not.")
    labels = {split: np.array([number_of[name] for name in names], np.int64) for split, names in named.items()}
    if "test" in labels:
        parts = random_parts(len(labels["train"]), len(labels["test"]), where)
        say_untested(distinct, named["test"], report)
    else:
        parts = Parts(*held_out(labels["train"], distinct, where, report), has_test_file=False)
    return Targets(CLASSIFICATION, taken({"labels": labels}, parts), tuple(distinct)), parts


def _class_texts(column: Column, where: object) -> list[str]:
    if column.dtype == object:
        return [str(value) for value in column]
    if not (column == np.round(column)).all():
        raise UsageError(
            f"{where}: numbers with fractions, such as {column[column != np.round(column)][0]:g}, cannot be classes."
        )
    return [str(int(value)) for value in column]


def _value(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return 0.0


def _indicators(
    files: Mapping[str, Mapping[str, Column]], where: object
) -> tuple[dict[str, NDArray[np.uint8]], tuple[str, ...]]:
    """Return labels as uint8 (N, L) of each file, by columns of 0 and 1 or one of texts; and their names."""
    names = list(files["train"])
    if all(file[name].dtype != object for file in files.values() for name in names):
        found = {}
        for split, file in files.items():
            values = np.stack([file[name] for name in names], 1)
            if not np.isin(values, (0, 1)).all():
                wrong = values[~np.isin(values, (0, 1))][0]
                raise UsageError(f"{where}: labels are columns of 0 and 1, and one cell holds {wrong:g}.", "target")
            found[split] = values.astype(np.uint8)
        check_label_names(names, where)
        return found, tuple(names)
    if len(names) > 1:
        raise UsageError(f"{where}: give columns of 0 and 1, or one column of texts such as 'red|round'.", "target")
    cells = {split: [_labels_in(cell) for cell in file[names[0]]] for split, file in files.items()}
    distinct = sorted({label for labels in cells["train"] for label in labels})
    unknown = sorted({label for labels in cells.get("test", ()) for label in labels} - set(distinct))
    if unknown:
        raise UsageError(f"{where}: the test set holds {listed_names(unknown)}, which the training set does not.")
    check_label_names(distinct, where)
    number_of = {label: number for number, label in enumerate(distinct)}
    found = {}
    for split, rows in cells.items():
        found[split] = np.zeros((len(rows), len(distinct)), np.uint8)
        for row, labels in enumerate(rows):
            found[split][row, [number_of[label] for label in labels]] = 1
    return found, tuple(distinct)


def _labels_in(cell: Any) -> list[str]:
    text = "" if cell is None else str(cell)
    mark = next((mark for mark in _MARKS if mark in text), None)
    return [label.strip() for label in (text.split(mark) if mark else text.split()) if label.strip()]


def check_label_names(names: Sequence[str], where: object) -> None:
    """Check the names of labels, of which an example may have any number. Raises: UsageError."""
    if not 1 <= len(names) <= _MOST_LABELS:
        raise UsageError(f"{where}: there are {len(names):,} different labels; 1 to {_MOST_LABELS:,} are possible.")
    wrong = next((name for name in names if not name.isprintable() or "," in name), None)
    if wrong is not None:
        raise UsageError(f"{where}: {wrong!r} cannot be the name of a label; rename it.")
