"""`multi_label`: each example has any number of labels. Binary cross-entropy; average precision and F1.

Average precision of a label is Σ_k (R_k - R_{k-1}) P_k over the distinct scores in falling order, with precision P_k
and recall R_k of the examples of at least the k-th score; the metric is its mean over the labels that occur (macro).
F1 is 2 TP / (2 TP + FP + FN) over all answers together (micro), at a probability of 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.tasks.task import Facts, Reduction, Task
from foundations.inputs import IMAGES, SERIES, TOKENS, VECTORS
from foundations.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

AVERAGE_PRECISION = Metric(spelling="average_precision", label="average precision", is_fraction=True)
F1 = Metric(spelling="f1", label="F1", is_fraction=True)


class MultiLabel(Task):
    """Outputs float (B, labels), logits of each label; targets float (B, labels), 0 or 1."""

    def loss(
        self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Return the binary cross-entropy, in nats: the mean over labels of each example.

        Smoothed targets are y (1 - α) + α / 2.
        """
        from torch.nn import functional as F

        wanted = targets.to(outputs.dtype)
        if label_smoothing:
            wanted = wanted * (1 - label_smoothing) + label_smoothing / 2
        found = F.binary_cross_entropy_with_logits(outputs, wanted, reduction=reduction)
        return found if reduction == "mean" else found / outputs.shape[-1]

    def sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return the numbers of true positive, of given and of present labels."""
        given, present = outputs > 0, targets > 0
        return [(given & present).sum(), given.sum(), present.sum()]

    def rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return outputs and targets beside each other, (B, 2 labels)."""
        import torch

        return torch.cat([outputs, targets.to(outputs.dtype)], 1)

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: Facts
    ) -> dict[str, float]:
        """Return f1 and, in evaluation, average_precision; both are 0 if no label occurs."""
        both, given, present = sums
        found = {F1.spelling: 2 * both / (given + present) if given + present else 0.0}
        if rows is None:
            return found
        scores, labels = rows.chunk(2, 1)
        precisions = [
            average_precision(score, label)
            for score, label in zip(scores.unbind(1), labels.unbind(1), strict=True)
            if label.any()
        ]
        return {AVERAGE_PRECISION.spelling: sum(precisions) / len(precisions) if precisions else 0.0, **found}


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Return the average precision of one label that occurs. scores: float (N,). labels: (N,), 0 or 1."""
    import torch

    order = scores.argsort(descending=True)
    hits = labels[order].double().cumsum(0)
    # Examples with equal scores stand or fall together: only the last of them is a threshold.
    falls = scores[order].diff() != 0
    last = torch.cat([falls, falls.new_ones(1)]).nonzero()[:, 0]
    found = hits[last]
    gained = found.diff(prepend=found.new_zeros(1)) / hits[-1]
    return float((gained * found / (last + 1)).sum())


MULTI_LABEL = MultiLabel(
    spelling="multi_label",
    summary="each example has any number of labels",
    metrics=(AVERAGE_PRECISION, F1),
    inputs=(IMAGES, VECTORS, TOKENS, SERIES),
    stored_targets="targets",
    smooths_labels=True,
)
