"""Training loss and metrics of an epoch, from its batches as they pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datasets.loading.mixing import hard_labels
from datasets.tasks.classification import CLASSIFICATION
from datasets.tasks.task import Facts, Task
from foundations.description.step import Step
from foundations.metrics import Metrics
from training.loop.evaluation import metrics_of, stacked_sums
from training.loop.loop import Callback


class EpochMeans:
    """Sums over the training examples since the last epoch ended: loss, the task's own sums, examples or tokens.

    Each example counts as it was trained: augmented, in training mode, with the weights at its step.
    """

    def __init__(self, device: torch.device, task: Task = CLASSIFICATION, facts: Facts | None = None) -> None:
        """Start at zero. device: the device of the sums, so that training does not wait for a GPU at each step."""
        self._kind = torch.float32 if device.type == "mps" else torch.float64
        self._device, self._task, self._facts = device, task, facts or Facts(0)
        self._sums: Tensor | None = None
        self._is_whole = True

    def add(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch. loss: the mean over it, float (). outputs, targets: as the task has them."""
        if len(targets):
            self.add_sums(self.sums_of(loss, outputs, targets))

    @torch.no_grad()
    def sums_of(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sums over a batch, (k,), to pass to `add_sums`. The last one is the number of what counts."""
        count = self._task.count(targets)
        labels = hard_labels(targets) if self._task.has_classes else targets
        sums = self._task.train_sums(outputs, labels, self._facts)
        return stacked_sums(loss.to(self._kind) * count, sums, count, self._kind)

    def add_sums(self, sums: Tensor) -> None:
        """Add the sums over a batch, (k,)."""
        self._sums = sums.to(self._kind) if self._sums is None else self._sums + sums

    def record_in(self, metrics: Metrics, end: Step) -> Callback:
        """Return a callback that records train_loss, train_accuracy and the like when an epoch or the training ends.

        A part of an epoch, after a start or before an end in its middle, counts as one.
        """

        def called(step: Step) -> None:
            if self._sums is None or not (step.it == 0 or step == end):
                return
            if self._is_whole:
                for name, value in metrics_of(self._sums, self._task, self._facts).items():
                    metrics.add(f"train_{name}", step.iteration, value)
            self._sums, self._is_whole = None, True

        return called

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, for checkpoints; empty if they lack part of the epoch."""
        if not self._is_whole:
            return {}
        return {"sums": torch.zeros(1, dtype=self._kind) if self._sums is None else self._sums.cpu()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore from a checkpoint. If it has no sums, its epoch is not recorded."""
        self._is_whole = "sums" in state
        is_empty = not self._is_whole or state["sums"][-1].item() == 0
        self._sums = None if is_empty else state["sums"].to(self._device, self._kind)
