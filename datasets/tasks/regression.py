"""`regression`: each example has one or more real-valued targets. Mean squared error; R² and RMSE.

Targets are standardized by the training set's mean and deviation, and the loss is that of standardized targets. RMSE is
in the targets' own units. R² is 1 - Σ (y - f)² / Σ (y - mean y)², the mean over targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.tasks.task import Facts, Reduction, Task
from foundations.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

R2 = Metric(spelling="r2", label="R²")
RMSE = Metric(spelling="rmse", label="RMSE", higher_is_better=False)


class Regression(Task):
    """Outputs and targets float (B, K)."""

    def loss(
        self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, reduction: Reduction = "mean"
    ) -> Tensor:
        """Return the squared error: the mean over the targets of each example."""
        from torch.nn import functional as F

        found = F.mse_loss(outputs, targets.to(outputs.dtype), reduction=reduction)
        return found if reduction == "mean" else found / outputs.shape[-1]

    def sums(self, outputs: Tensor, targets: Tensor, facts: Facts) -> list[Tensor]:
        """Return, for each target, the sums of squared errors, of targets and of squared targets."""
        wanted = targets.double() if outputs.device.type != "mps" else targets.float()
        errors = (outputs.to(wanted.dtype) - wanted).square().sum(0)
        return [*errors, *wanted.sum(0), *wanted.square().sum(0)]

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: Facts
    ) -> dict[str, float]:
        """Return r2 and rmse. R² of a constant target is 0, as nothing is to be explained."""
        size = len(sums) // 3
        errors, firsts, seconds = sums[:size], sums[size : 2 * size], sums[2 * size :]
        spreads = [second - first * first / count for first, second in zip(firsts, seconds, strict=True)]
        explained = [1 - error / spread if spread > 0 else 0.0 for error, spread in zip(errors, spreads, strict=True)]
        scales = facts.target_std or (1.0,) * size
        squares = [error * scale * scale / count for error, scale in zip(errors, scales, strict=True)]
        return {R2.spelling: sum(explained) / size, RMSE.spelling: math.sqrt(sum(squares) / size)}


REGRESSION = Regression(
    spelling="regression",
    summary="each example has one or more real-valued targets",
    metrics=(R2, RMSE),
    stored_targets="targets",
)
