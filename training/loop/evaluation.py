"""Evaluating a model on examples that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from datasets.tasks.classification import CLASSIFICATION
from datasets.tasks.task import Facts, Task
from platforms.platform import Platform


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    outputs: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    examples_are: str = "test",
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    platform: Platform | None = None,
    *,
    task: Task = CLASSIFICATION,
    facts: Facts | None = None,
) -> dict[str, float]:
    """Return test_loss and the task's metrics, such as test_accuracy and, with 5 outputs or more, test_top5accuracy.

    The model is evaluated in eval mode and left in the mode it had.
    batches: inputs and targets. examples_are: the prefix of the names. loss: maps the outputs and targets of a batch to
    the sum of its losses, by default the task's; the result is the mean over all that counts (`Task.count`).
    platform: of several processes, if the batches are a process's part. facts: by default only `outputs`.
    """
    was_training = model.training
    model.eval()
    found = Accumulator(task, facts or Facts(outputs))
    with torch.no_grad():
        for inputs, targets in batches:
            with autocast():
                predicted = model(inputs)
            predicted = predicted.float()
            total = task.loss(predicted, targets, reduction="sum") if loss is None else loss(predicted, targets)
            found.add(total, predicted, targets)
    model.train(was_training)
    if platform is not None and platform.world_size > 1:
        found.sum_over(platform, next(model.parameters()).device)
    return {f"{examples_are}_{name}": value for name, value in found.metrics().items()}


class Accumulator:
    """Sums over the examples of batches, from which a task computes its metrics."""

    def __init__(self, task: Task, facts: Facts) -> None:
        """Start without examples."""
        self._task, self._facts = task, facts
        self._sums: Tensor | None = None
        self._rows: list[Tensor] = []

    def add(self, total: Tensor, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch. total: the sum of its losses, float (). outputs: float (B, ...)."""
        # Sums stay on the device, so that the loop does not wait for a GPU after each batch.
        kind = torch.float32 if total.device.type == "mps" else torch.float64
        batch = stacked_sums(total, self._task.sums(outputs, targets, self._facts), self._task.count(targets), kind)
        self._sums = batch if self._sums is None else self._sums + batch
        rows = self._task.rows(outputs, targets)
        if rows is not None:
            self._rows.append(rows)

    def sum_over(self, platform: Platform, device: torch.device) -> None:
        """Add the examples of all processes. All must call it; some may have no examples."""
        rows = torch.cat(self._rows) if self._rows else None
        own = torch.zeros(3, platform.world_size, dtype=torch.int64, device=device)
        own[0, platform.rank] = 0 if self._sums is None else len(self._sums)
        if rows is not None:
            own[1:, platform.rank] = own.new_tensor(rows.shape)
        platform.sum_(own)
        kind = torch.float64 if self._sums is None else self._sums.dtype
        sums = torch.zeros(int(own[0].max()), dtype=kind, device=device)
        if self._sums is not None:
            sums += self._sums
        platform.sum_(sums)
        self._sums = sums
        counts, width = own[1].tolist(), int(own[2].max())
        if not width:
            return
        everyone = torch.zeros(sum(counts), width, dtype=torch.float32, device=device)
        if rows is not None:
            first = sum(counts[: platform.rank])
            everyone[first : first + len(rows)] = rows
        platform.sum_(everyone)
        self._rows = [everyone]

    def metrics(self) -> dict[str, float]:
        """Return the mean loss and the metrics of all examples."""
        if self._sums is None:
            raise ZeroDivisionError("there are no examples")
        rows = torch.cat(self._rows) if self._rows else None
        return metrics_of(self._sums, self._task, self._facts, rows)


def stacked_sums(total: Tensor, sums: list[Tensor], count: Tensor | int, kind: torch.dtype) -> Tensor:
    """Return the sum of losses, the sums of a task, and the count, (k,). kind: the type of the result."""
    counted = count.to(kind) if isinstance(count, Tensor) else torch.full_like(total, count, dtype=kind)
    return torch.stack([total.to(kind), *(each.to(kind) for each in sums), counted], -1)


def metrics_of(sums: Tensor, task: Task, facts: Facts, rows: Tensor | None = None) -> dict[str, float]:
    """Return the mean loss and the metrics of sums as `stacked_sums` has them, added over batches."""
    total, *own, count = sums.tolist()
    loss = total / count if count else 0.0
    return {"loss": loss, **task.measured(loss, count, own, rows, facts)}
