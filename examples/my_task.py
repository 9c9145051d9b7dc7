"""`robust_regression`: a task with a loss and a metric of its own, and a dataset of series that has it, as a plug-in.

The series are waves with noise, and a tenth of the targets, their frequencies, are wrong by far. The Huber loss grows
linearly beyond a distance of 1, so these count for less than in a squared error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from open_prune import Arrays, DatasetSpec, DatasetTask, Metric, SourceFiles, TaskFacts

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

STEPS = 32
FREQUENCIES = (1.0, 8.0)
ERROR = Metric(spelling="mean_absolute_error", label="mean absolute error", higher_is_better=False)


class RobustRegression(DatasetTask):
    """Outputs and targets float (B, K)."""

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        *,
        label_smoothing: float = 0.0,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> Tensor:
        """Return the Huber loss: the mean over the targets of each example."""
        from torch.nn import functional as F

        found = F.huber_loss(outputs, targets.to(outputs.dtype), reduction=reduction)
        return found if reduction == "mean" else found / outputs.shape[-1]

    def sums(self, outputs: Tensor, targets: Tensor, facts: TaskFacts) -> list[Tensor]:
        """Return the sum of absolute errors."""
        return [(outputs - targets).abs().sum()]

    def measured(
        self, loss: float, count: float, sums: Sequence[float], rows: Tensor | None, facts: TaskFacts
    ) -> dict[str, float]:
        """Return the mean absolute error."""
        return {ERROR.spelling: sums[0] / count / facts.outputs}


ROBUST_REGRESSION = RobustRegression(
    spelling="robust_regression",
    summary="real-valued targets, some of them far off",
    metrics=(ERROR,),
    stored_targets="targets",
)


def waves(_: SourceFiles) -> dict[str, Arrays]:
    """Return both splits of the dataset."""
    import numpy as np

    random = np.random.default_rng(0)
    return {"train": _part(1000, random), "test": _part(200, random)}


def _part(count: int, random: np.random.Generator) -> Arrays:
    import numpy as np

    frequencies = random.uniform(*FREQUENCIES, size=(count, 1))
    phases = random.uniform(0, 2 * np.pi, size=(count, 1))
    inputs = np.sin(2 * np.pi * frequencies * np.arange(STEPS) / STEPS + phases)
    targets = np.where(random.random((count, 1)) < 0.1, 20 * random.standard_normal((count, 1)), frequencies)
    noisy = inputs + 0.1 * random.standard_normal(inputs.shape)
    tensors = {"inputs": noisy[:, None].astype(np.float32), "targets": targets.astype(np.float32)}
    return Arrays(tensors, "computed by examples/my_task.py")


WAVES = DatasetSpec(
    spelling="waves",
    task=ROBUST_REGRESSION,
    inputs="series",
    num_train=1000,
    num_test=200,
    num_outputs=1,
    input_shape=(1, STEPS),
    mean=(0.0,),
    std=(0.7,),
    target_mean=(4.5,),
    target_std=(2.0,),
    read=waves,
    origin="computed: waves with noise",
)
