"""`classification`: each example has one class. Cross-entropy; accuracy and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.tasks.task import Facts, Reduction, Task
from foundations.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from datasets.spec import DatasetSpec

_OUTPUTS_FOR_TOP5 = 5
"""With fewer outputs there is no top five."""
ACCURACY = Metric(spelling="accuracy", label="accuracy", is_fraction=True)
TOP5 = Metric(spelling="top5accuracy", label="top-5 accuracy", is_fraction=True)


class Classification(Task):
    """Outputs float (B, classes), targets int64 (B,)."""

    def outputs(self, spec: DatasetSpec) -> int:
        """Return the number of classes."""
        return spec.num_classes

    def loss(
        self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Return the cross-entropy, in nats."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing, reduction=reduction)

    def sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return the number of correct answers, and of answers with the class among the first five."""
        in_top5 = (outputs.topk(min(5, facts.outputs), -1).indices == targets[..., None]).sum()
        return [*self.train_sums(outputs, targets, facts), in_top5]

    def train_sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return the number of correct answers."""
        return [(outputs.argmax(-1) == targets).sum()]

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: Facts
    ) -> dict[str, float]:
        """Return accuracy, a fraction; in evaluation, with 5 outputs or more, top5accuracy."""
        names = [ACCURACY.spelling, *([TOP5.spelling] if facts.outputs >= _OUTPUTS_FOR_TOP5 else [])]
        return {name: value / count for name, value in zip(names, sums, strict=False)}


CLASSIFICATION = Classification(
    spelling="classification",
    summary="each example has one class",
    metrics=(ACCURACY, TOP5),
    has_classes=True,
    smooths_labels=True,
)
