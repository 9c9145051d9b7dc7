"""Users' arrays of numbers other than images: vectors (N, F) and series (N, C, T), with classes or real targets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.added.options import AddOptions, Report
from datasets.added.targets import Targets, make_targets
from datasets.added.user_tables import content
from datasets.formats.content import Content, mean_and_std
from foundations.errors import UsageError

Named = tuple[str, NDArray[Any]]
"""An array, with its name for errors."""


def are_vectors(array: NDArray[Any], name: str) -> bool:
    """Return whether an array is one of vectors or series, and not of images."""
    if "image" in name.lower() or array.dtype.kind not in "iufb":
        return False
    return array.ndim == 2 or (array.ndim == 3 and array.dtype.kind == "f")


def read_vectors(
    path: Path, inputs: Mapping[str, Named], targets: Mapping[str, Named], options: AddOptions, report: Report
) -> Content:
    """Return the content of arrays. inputs, targets: of `train`, and `test` if there is one.

    Raises: UsageError that names the array, and the row of a number that is not finite.
    """
    options.refuse("arrays of numbers", "augmentation", "image_size", "stream")
    checked = {split: _finite(*named) for split, named in inputs.items()}
    shapes = sorted({array.shape[1:] for array in checked.values()})
    if len(shapes) > 1:
        raise UsageError(f"{path}: training and test inputs differ in shape: {shapes[0]} and {shapes[1]}.")
    if len(shapes[0]) == 2:
        report(f"read as series: {shapes[0][0]} channels, {shapes[0][1]} steps (images must be uint8)")
    found, parts = array_targets(path, {s: (*named, len(checked[s])) for s, named in targets.items()}, options, report)
    test = checked["test" if parts.has_test_file else "train"]
    taken = {"train": checked["train"][parts.train], "test": test[parts.test]}
    mean, std = mean_and_std(taken["train"])
    return content(taken, found.task, found.splits, found.class_names, mean, std, path, found.facts, {})


def array_targets(
    path: Path, targets: Mapping[str, tuple[str, NDArray[Any], int]], options: AddOptions, report: Report
) -> tuple[Targets, Any]:
    """Return the targets in arrays (N,) or (N, K), and the examples of each split.

    targets: name, array and the number of examples of `train`, and of `test` if there is one. Raises: UsageError.
    """
    columns = {split: _columns(*named, options) for split, named in targets.items()}
    if len({len(each) for each in columns.values()}) > 1:
        raise UsageError(f"{path}: training and test targets differ in their number of columns.")
    return make_targets(columns, options, path, report)


def _columns(what: str, array: NDArray[Any], count: int, options: AddOptions) -> dict[str, NDArray[Any]]:
    """Return the columns of targets. what: names the array."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind not in "iufbUS" or array.ndim not in (1, 2) or len(array) != count:
        raise UsageError(
            f"{what} are {array.dtype} {array.shape}; they must be numbers or texts ({count},) or ({count}, K)."
        )
    is_float = array.dtype.kind == "f"
    if array.dtype.kind in "US":
        texts = [
            value.decode(errors="replace") if isinstance(value, bytes) else value for value in array.ravel().tolist()
        ]
        array = np.array([*texts, None], object)[:-1].reshape(array.shape)
    else:
        array = _finite(what, array.astype(np.float64), np.float64)
    if array.ndim == 1:
        if is_float and options.task is None and (array == np.round(array)).all():
            raise UsageError(
                f"{what} are floating-point numbers that are whole: for classes, labels.astype('int64'); for real "
                "values, --task=regression."
            )
        return {"target": array}
    if options.task is None and array.dtype != object and (array.sum(1) == 1).all() and np.isin(array, (0, 1)).all():
        raise UsageError(
            f"{what} are {array.shape}: rows with one 1 for the class become numbers by labels.argmax(1); for several "
            "labels, give --task=multi_label."
        )
    return {f"target_{number}": column for number, column in enumerate(array.T)}


def _finite(what: str, array: NDArray[Any], dtype: type[Any] = np.float32) -> NDArray[Any]:
    """Return an array as floats. Raises: UsageError that names the row of a number that is not finite."""
    if 0 in array.shape:
        raise UsageError(f"{what} are {array.shape}: there are no numbers.")
    with np.errstate(over="ignore"):
        numbers = array.astype(dtype, copy=False)
    step = 100_000
    for start in range(0, len(numbers), step):
        part = numbers[start : start + step]
        wrong = np.flatnonzero(~np.isfinite(part.reshape(len(part), -1)).all(1))
        if len(wrong):
            raise UsageError(f"{what}, row {start + wrong[0]} (from 0): it holds NaN, or a number that is not finite.")
    return numbers
