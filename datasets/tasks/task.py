"""The base class of tasks: the loss, the metrics and the scoring examples of a dataset. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from foundations.errors import UsageError
from foundations.inputs import KINDS
from foundations.metrics import Metric
from foundations.registry import Registered

if TYPE_CHECKING:
    from torch import Tensor

    from datasets.spec import DatasetSpec

EXAMPLES_FOR_EACH = 10
"""Scoring examples for each N of a name such as snipN, where there are no classes: as many as with ten classes."""
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Facts:
    """Constants that metrics depend on, besides outputs and targets."""

    outputs: int
    """Number of outputs of the network."""
    target_std: tuple[float, ...] = ()
    """The deviation by which each real-valued target was divided; empty if targets are as they were."""
    token_bytes: Tensor | None = None
    """The length of each token in bytes, int64 (vocabulary,); None if it is not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task(Registered):
    """A task by name. Subclasses define the loss, and the sums over examples that metrics are made of."""

    summary: str
    """The task in a few words."""
    metrics: tuple[Metric, ...]
    """The metrics besides the loss; the first is the headline: figures, tables and best states follow it."""
    inputs: tuple[str, ...] = tuple(KINDS)
    """The kinds of inputs that its datasets may have."""
    stored_targets: str | None = "labels"
    """The name of the targets in prepared files: labels, int64 (N,), or targets (N, K); None if they are tokens."""
    has_classes: bool = False
    """Whether each example has one of `num_classes` classes."""
    per_token: bool = False
    """Whether the network answers for each token, float (B, T, outputs), and not once for each example."""
    smooths_labels: bool = False
    """Whether `label_smoothing` changes its loss."""

    @property
    def headline(self) -> Metric:
        """The metric by which networks are compared."""
        return self.metrics[0]

    @property
    def counts_examples(self) -> bool:
        """Whether the mean loss is over examples, and not over tokens or the like."""
        return type(self).count is Task.count

    def check_declared(self) -> None:
        """Check that there is a headline, and that the kinds of inputs exist."""
        if not self.metrics:
            raise UsageError("metrics are empty; the first is the headline.")
        for kind in self.inputs:
            if kind not in KINDS:
                raise UsageError(f"inputs has '{kind}'; choose from {', '.join(KINDS)}.")

    def outputs(self, spec: DatasetSpec) -> int:
        """Return the number of outputs that a network needs for a dataset of this task."""
        return spec.num_outputs

    def loss(
        self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Return the loss of a batch, float (): the mean over `count`, or the sum.

        outputs: float (B, outputs), or (B, T, outputs) for each token. targets: as batches have them. It must work
        under `torch.func.vmap`. A batch in which nothing counts has a mean of 0.
        """
        raise NotImplementedError

    def count(self, targets: Tensor) -> Tensor | int:
        """Return the number of examples (or tokens) of a batch that the mean loss is over, int or int64 ()."""
        return len(targets)

    def sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return sums over a batch, each (), from which `measured` computes metrics of any number of batches."""
        raise NotImplementedError

    def train_sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return the sums for metrics of training batches, by default those of `sums`."""
        return self.sums(outputs, targets, facts)

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Return the numbers of every example that a metric needs beside sums, float (B, k); None if it needs none."""
        return None

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: Facts
    ) -> dict[str, float]:
        """Return metrics besides the loss, by name.

        loss: the mean over `count`. sums: of `sums`, or of `train_sums`. rows: of all examples, in any order; None of
        training batches.
        """
        raise NotImplementedError

    def scoring_examples(self, per_class: int, num_classes: int) -> int:
        """Return the number of examples with which a method such as snip10 scores: `per_class` is 10."""
        return per_class * (num_classes if self.has_classes else EXAMPLES_FOR_EACH)


# Their names in the library, where `Task` is a task of executors.
DatasetTask = Task
TaskFacts = Facts
