"""Training loss and metrics of an epoch, from its batches as they pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from datasets.loading.mixing import hard_labels
from datasets.tasks.classification import CLASSIFICATION
from datasets.tasks.task import Facts, Task
from foundations.description.step import Step
from foundations.metrics import Metrics
from training.loop.evaluation import metrics_of, stacked_sums
from training.loop.loop import Callback

_TOGETHER = 64
"""Batches whose sums are added at once."""


class EpochMeans:
    """Sums over the training examples since the last epoch ended: loss, the task's own sums, examples or tokens.

    Each example counts as it was trained: augmented, in training mode, with the weights at its step.
    """

    def __init__(self, device: torch.device, task: Task = CLASSIFICATION, facts: Facts | None = None) -> None:
        """Start at zero. device: the device of the sums, so that training does not wait for a GPU at each step."""
        self._kind = torch.float32 if device.type == "mps" else torch.float64
        self._device, self._task, self._facts = device, task, facts or Facts(0)
        self._sums: Tensor | None = None
        self._batches: list[tuple[Step | None, Tensor, list[Tensor], Tensor | int]] = []
        """Steps, losses, the task's sums, and counts of batches that are not yet in the sums."""
        self._is_whole = True
        self._step: Step | None = None
        self.first_lost: Step | None = None
        """The step of the first loss that is not finite, where it is known: looking would wait for a GPU."""

    def add(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch. loss: the mean over it, float (), which must keep its value. outputs, targets: as the task's."""
        if len(targets):
            self._batches.append((self._step, loss.detach(), *self._counted(outputs, targets)))
            if len(self._batches) >= _TOGETHER:
                self._collect()

    @torch.no_grad()
    def sums_of(self, loss: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sums over a batch, (k,), to pass to `add_sums`. The last one is the number of what counts."""
        sums, count = self._counted(outputs, targets)
        return stacked_sums(loss.to(self._kind) * count, sums, count, self._kind)

    @torch.no_grad()
    def _counted(self, outputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor | int]:
        labels = hard_labels(targets) if self._task.has_classes else targets
        return self._task.train_sums(outputs, labels, self._facts), self._task.count(targets)

    def _collect(self) -> None:
        """Add the batches that wait, in their order: many at once take a few operations in place of many."""
        batches, self._batches = self._batches, []
        if not batches:
            return
        steps, each_loss, each_sums, each_count = zip(*batches, strict=True)
        losses = torch.stack(each_loss).to(self._kind)
        counts = torch.stack([torch.as_tensor(count) for count in each_count]).to(losses, non_blocking=True)
        own = [torch.stack(each).to(self._kind) for each in zip(*each_sums, strict=True)]
        for sums in torch.stack([losses * counts, *own, counts], -1):
            self._sums = sums if self._sums is None else self._sums + sums
        self._look_for_lost(losses, steps)

    def add_sums(self, sums: Tensor) -> None:
        """Add the sums over a batch, (k,)."""
        self._collect()
        self._sums = sums.to(self._kind) if self._sums is None else self._sums + sums
        self._look_for_lost(sums[:1], (self._step,))

    def _look_for_lost(self, losses: Tensor, steps: Sequence[Step | None]) -> None:
        """Keep the step of the first loss that is not finite. losses: (batches,)."""
        if self._device.type == "cpu" and self.first_lost is None:
            finite = losses.isfinite().tolist()
            self.first_lost = next((step for step, each in zip(steps, finite, strict=True) if not each), None)

    def record_in(self, metrics: Metrics, end: Step) -> Callback:
        """Return a callback that records train_loss, train_accuracy and the like when an epoch or the training ends.

        A part of an epoch, after a start or before an end in its middle, counts as one.
        """

        def called(step: Step) -> None:
            self._step = step
            if not (step.it == 0 or step == end):
                return
            self._collect()
            if self._sums is None:
                return
            if self._is_whole:
                for name, value in metrics_of(self._sums, self._task, self._facts).items():
                    metrics.add(f"train_{name}", step.iteration, value)
            self._sums, self._is_whole = None, True

        return called

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, for checkpoints; empty if they lack part of the epoch."""
        self._collect()
        if not self._is_whole:
            return {}
        return {"sums": torch.zeros(1, dtype=self._kind) if self._sums is None else self._sums.cpu()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore from a checkpoint. If it has no sums, its epoch is not recorded."""
        self._is_whole = "sums" in state
        self._batches = []
        is_empty = not self._is_whole or state["sums"][-1].item() == 0
        self._sums = None if is_empty else state["sums"].to(self._device, self._kind)
