"""Holding out the test set of a dataset that has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.added.class_names import listed_names
from foundations.errors import UsageError

_FRACTION = 0.1
"""The fraction of the examples that becomes the test set."""


def held_out(
    labels: NDArray[np.int64], class_names: Sequence[str], where: object, report: Callable[[str], None]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the examples for training and for testing, each int64 and in ascending order.

    A tenth of the examples is held out, drawn at random with a fixed seed. Classes that training or testing would lack
    get an example there, with a line to `report`. labels: int64 (N,), from 0. where: for errors.
    Raises: UsageError that names the classes with a single example.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    single = [name for name, count in zip(class_names, counts, strict=True) if count < 2]
    if single:
        raise UsageError(
            f"{where}: {listed_names(single)} {'has' if len(single) == 1 else 'have'} a single example, which cannot "
            "serve both training and testing. Add examples, leave the class out, or add a test set."
        )
    order = np.random.RandomState(0).permutation(len(labels))
    number = max(1, round(_FRACTION * len(labels)))
    is_test = np.zeros(len(labels), bool)
    is_test[order[:number]] = True
    tested = np.bincount(labels[is_test], minlength=len(counts))
    lacking = [int(each) for each in np.flatnonzero((tested == 0) | (tested == counts))]
    if lacking:
        _complete(is_test, labels, order, lacking)
        named = listed_names([class_names[each] for each in lacking])
        report(f"holding out an example of each class: a random tenth would leave training or testing without {named}")
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _complete(
    is_test: NDArray[np.bool_], labels: NDArray[np.int64], order: NDArray[np.int64], lacking: Sequence[int]
) -> None:
    """Leave one test example of each lacking class, in place; restore the size as far as every class keeps one."""
    number = int(is_test.sum())
    by_class = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.bincount(labels))
    for each in lacking:
        examples = by_class[ends[each - 1] if each else 0 : ends[each]]
        is_test[examples] = False
        is_test[examples[0]] = True
    tested = np.bincount(labels[is_test])
    surplus = int(is_test.sum()) - number
    for example in order[is_test[order]][::-1]:
        if surplus > 0 and tested[labels[example]] > 1:
            is_test[example] = False
            tested[labels[example]] -= 1
            surplus -= 1
