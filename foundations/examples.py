"""Which examples a method scores with, the same for everyone who asks with the same seed; and reading them in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundations.errors import UsageError
from foundations.random_streams import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


class Rows:
    """Examples whose inputs are read when they are needed. Its parts are of the same kind; `len` is their number."""

    def __init__(self, targets: torch.Tensor, read: Callable[[slice], torch.Tensor]) -> None:
        """Take the targets of all n, (n, ...), and what gives the inputs of a slice of them."""
        self.targets, self._read, self._start = targets, read, 0

    @classmethod
    def of(cls, inputs: torch.Tensor, targets: torch.Tensor) -> Rows:
        """Return examples that are in memory, both with n rows."""
        return cls(targets, inputs.__getitem__)

    def __len__(self) -> int:
        return len(self.targets)

    def read(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs (n, ...) and the targets (n, ...)."""
        return self._read(slice(self._start, self._start + len(self))), self.targets

    def split(self, size: int | None) -> list[Rows]:
        """Return consecutive parts of a size, the last one smaller; all in one without a size."""
        starts = range(0, len(self), size or max(1, len(self)))
        return [self._part(slice(start, start + (size or len(self)))) for start in starts]

    def _part(self, rows: slice) -> Rows:
        part = Rows(self.targets[rows], self._read)
        part._start = self._start + rows.start
        return part


def choose_examples(
    labels: torch.Tensor, per_class: int, seed: int, *, num_classes: int | None = None, source: str = "the examples"
) -> torch.Tensor:
    """Return the indices, int64, of exactly `per_class` examples of each class, in a shuffled order.

    They are the first of each class in a random order of all examples, drawn from `seed`, and keep that order.

    labels: int64 (N,). num_classes: the number of classes; by default those that occur. source: where the labels
    come from, for the error.
    Raises: UsageError where a class has fewer examples; it names the class with the fewest.
    """
    import torch

    labels = labels.cpu()
    counts = labels.bincount(minlength=num_classes or 0)
    classes = range(num_classes) if num_classes else counts.nonzero().flatten().tolist()
    scarcest = min(classes, key=counts.tolist().__getitem__)
    if counts[scarcest] < per_class:
        raise UsageError(
            f"{per_class} examples of each class are asked for, but class {scarcest} of {source} has "
            f"{counts[scarcest]}.",
            "strategy",
        )
    order = torch.randperm(len(labels), generator=generator("scoring examples", seed))
    shuffled = labels[order]
    chosen = [(shuffled == label).nonzero()[:per_class, 0] for label in classes]
    return order[torch.cat(chosen).sort().values]


def draw_examples(total: int, count: int, seed: int, *, source: str = "") -> Callable[[int], torch.Tensor]:
    """Return what gives the indices, int64 (count,), of a pass over `count` examples, by the number of the pass.

    The examples are drawn once from all `total`, whatever their classes; each pass has an order of its own.

    source: where they come from, for the error, such as " in the training set". Raises: UsageError where there are
    fewer than `count`.
    """
    import torch

    if count > total:
        raise UsageError(f"{count} examples are asked for, but there are {total}{source}.", "strategy")
    drawn = torch.randperm(total, generator=generator("scoring examples", seed))[:count]
    return lambda number: drawn[torch.randperm(count, generator=generator("scoring order", seed, number))]
