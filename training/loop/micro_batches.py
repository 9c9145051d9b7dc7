"""Training batches in parts, whose gradients add up to those of the whole batch (`accumulate`).

With c_k of the c examples (or tokens) that count in part k, and L_k the mean loss over them, the loss of the batch is
sum_k c_k / c L_k. So each part's loss is multiplied by c_k / c, its share, and the gradients are summed. Dropout drops
the same entries as in the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from datasets.tasks.task import Task
from models.dropout import Dropout
from training.loop.parallel import Parallel


class MicroBatches:
    """The parts of a network's training batches."""

    def __init__(self, model: nn.Module, parts: int, task: Task, parallel: Parallel | None = None) -> None:
        """Split each batch into `parts` nearly equal ones, or into single examples if it has fewer."""
        self._parts, self._task, self._parallel = parts, task, parallel
        # Several processes weight losses over tokens by the number of them already (`Parallel.weighted`).
        self._has_shares = parallel is None or task.counts_examples
        self._dropouts = [module for module in model.modules() if isinstance(module, Dropout)] if parts > 1 else []

    def of(self, inputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | float]]:
        """Yield the parts of a batch, or of this process's slice of it: inputs, targets and the part's share."""
        size = len(targets)
        parts = min(self._parts, size)
        if parts == 1:
            yield inputs, targets, 1.0
            return
        first, whole = (0, size) if self._parallel is None else self._parallel.part
        calls = [dropout.calls.clone() for dropout in self._dropouts]
        total = self._task.count(targets)
        total = total.clamp(min=1).double() if isinstance(total, Tensor) else total
        try:
            for number in range(parts):
                start, stop = size * number // parts, size * (number + 1) // parts
                for dropout, before in zip(self._dropouts, calls, strict=True):
                    dropout.calls.copy_(before)
                self._place((first + start, whole))
                own = targets[start:stop]
                yield inputs[start:stop], own, self._task.count(own) / total if self._has_shares else 1.0
        finally:
            self._place(None if self._parallel is None else (first, whole))

    def _place(self, part: tuple[int, int] | None) -> None:
        """Tell the layers where the next examples are in the whole batch."""
        if self._parallel is not None and part is not None:
            self._parallel.part = part
            return
        for dropout in self._dropouts:
            dropout.part = part


def weighted(loss: Tensor, share: Tensor | float) -> Tensor:
    """Return the loss of a part, float (), times its share."""
    if isinstance(share, Tensor):
        return loss * share.to(loss.dtype)
    return loss if share == 1 else loss * share
