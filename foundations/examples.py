"""The examples that a method scores with: chosen by a seed, and read in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foundations.errors import UsageError
from foundations.random_streams import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Rows:
    """Examples whose inputs are read when they are needed. Its parts are of the same kind; `len` is their number.

    Inputs and targets are tensors, or trees of them: tuples and dictionaries whose tensors have a row for each example.
    """

    def __init__(self, targets: Any, read: Callable[[slice], Any], count: int | None = None) -> None:
        """Take all n targets, (n, ...), and a function that reads the inputs of a slice.

        count: n, where the targets are not a tensor.
        """
        self.targets, self._read, self._start = targets, read, 0
        self._count = len(targets) if count is None else count

    @classmethod
    def of(cls, inputs: Any, targets: Any) -> Rows:
        """Return examples that are in memory, both with n rows."""
        return cls(targets, lambda rows: rows_of(inputs, rows), _number_of_rows(inputs))

    def __len__(self) -> int:
        return self._count

    def read(self) -> tuple[Any, Any]:
        """Return the inputs (n, ...) and the targets (n, ...)."""
        return self._read(slice(self._start, self._start + len(self))), self.targets

    def split(self, size: int | None) -> list[Rows]:
        """Return consecutive parts of a size, the last one smaller; all in one without a size."""
        starts = range(0, len(self), size or max(1, len(self)))
        return [self._part(start, min(start + (size or len(self)), len(self))) for start in starts]

    def _part(self, start: int, end: int) -> Rows:
        part = Rows(rows_of(self.targets, slice(start, end)), self._read, end - start)
        part._start = self._start + start
        return part


def rows_of(tree: Any, rows: slice | torch.Tensor) -> Any:
    """Return some rows of a tensor, or of each tensor in a tree: a slice of them, or those of indices (int64)."""
    import torch
    from torch.utils._pytree import tree_map_only

    def some(tensor: torch.Tensor) -> torch.Tensor:
        return tensor[rows.to(tensor.device) if isinstance(rows, torch.Tensor) else rows]

    return some(tree) if isinstance(tree, torch.Tensor) else tree_map_only(torch.Tensor, some, tree)


def _number_of_rows(tree: Any) -> int:
    from torch.utils._pytree import tree_leaves

    return next(len(leaf) for leaf in tree_leaves(tree) if hasattr(leaf, "shape"))


def choose_examples(
    labels: torch.Tensor,
    per_class: int,
    seed: int,
    *,
    num_classes: int | None = None,
    ignored: int | None = None,
    source: str = "the examples",
) -> torch.Tensor:
    """Return the indices, int64, of exactly `per_class` examples of each class, in a shuffled order.

    They are the first of each class in a random order of all examples, drawn from `seed`, and keep that order.

    labels: (N,), integers or bools of any values. num_classes: the number of classes, 0 to C - 1; by default those that
    occur, without `ignored`. source: where the labels come from, for the error.
    Raises: UsageError where a class has fewer examples; it names the class with the fewest.
    """
    import torch

    labels = labels.cpu().long()
    if num_classes:
        counts = labels.bincount(minlength=num_classes)
        classes = list(range(num_classes))
    else:
        values, counts = torch.unique(labels, return_counts=True)
        classes = values.tolist()
    number = {label: int(count) for label, count in zip(classes, counts.tolist(), strict=False) if label != ignored}
    if not number:
        raise UsageError(f"{source} have no label that counts.", "examples")
    scarcest = min(number, key=number.__getitem__)
    if number[scarcest] < per_class:
        raise UsageError(
            f"{per_class} examples of each class are asked for, but class {scarcest} of {source} has "
            f"{number[scarcest]}.",
            "strategy",
        )
    order = torch.randperm(len(labels), generator=generator("scoring examples", seed))
    if ignored is not None:
        order = order[labels[order] != ignored]
    by_class = labels[order].argsort(stable=True)
    first = torch.tensor(list(number.values())).cumsum(0) - torch.tensor(list(number.values()))
    places = (first[:, None] + torch.arange(per_class)).flatten()
    return order[by_class[places].sort().values]


def draw_examples(
    total: int, count: int, seed: int, *, source: str = "", batch: int | None = None
) -> Callable[[int], torch.Tensor]:
    """Return a function from the number of a pass over `count` examples to the indices of the pass, int64 (count,).

    The examples are drawn once from all `total`, whatever their classes; each pass has an order of its own.

    batch: the size of batches drawn again in every pass instead, each by itself: the first ones of all examples
    in a random order. So two batches can share examples. source: where they come from, for the error, such as " in the
    training set". Raises: UsageError where there are fewer than `count`, or than `batch`.
    """
    import torch

    sizes = [count] if batch is None else [min(batch, count - first) for first in range(0, count, batch)]
    if max(sizes) > total:
        raise UsageError(f"{max(sizes)} examples are asked for, but there are {total}{source}.", "strategy")
    if batch is not None:

        def of_pass(number: int) -> torch.Tensor:
            orders = (
                torch.randperm(total, generator=generator("scoring batch", seed, number, place))
                for place in range(len(sizes))
            )
            return torch.cat([order[:size] for order, size in zip(orders, sizes, strict=True)])

        return of_pass
    drawn = torch.randperm(total, generator=generator("scoring examples", seed))[:count]
    return lambda number: drawn[torch.randperm(count, generator=generator("scoring order", seed, number))]
