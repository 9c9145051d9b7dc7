"""Training loss and accuracy of an epoch, from its batches as they pass."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foundations.description.step import Step
from foundations.metrics import Metrics
from training.loop.loop import Callback


class EpochMeans:
    """Sums over the training examples since the last epoch ended: loss, correct answers, examples.

    Each example counts as it was trained: augmented, in training mode, with the weights at its step.
    """

    def __init__(self, device: torch.device) -> None:
        """Start at zero. device: the device of the sums, so that training does not wait for a GPU at each step."""
        self._sums = torch.zeros(3, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        self._is_empty, self._is_whole = True, True

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch. loss: the mean over it, float (). logits: float (B, outputs). labels: int64 (B,)."""
        if len(labels):
            self.add_sums(self.sums_of(loss, logits, labels))

    @torch.no_grad()
    def sums_of(self, loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sums of loss, correct answers and examples of a batch, (3,), to pass to `add`.

        With one more dimension in front of the arguments of `add`, for several batches of one size: (batches, 3).
        """
        kind, count = self._sums.dtype, labels.shape[-1]
        total, correct = loss.to(kind) * count, (logits.argmax(-1) == labels).sum(-1).to(kind)
        return torch.stack([total, correct, torch.full_like(total, count)], -1)

    def add_sums(self, sums: Tensor) -> None:
        """Add the sums over a batch, (3,)."""
        self._sums += sums
        self._is_empty = False

    def record_in(self, metrics: Metrics, end: Step) -> Callback:
        """Return a callback that records train_loss and train_accuracy at the end of each epoch and of the training.

        A part of an epoch, after a start or before an end in its middle, counts as one.
        """

        def called(step: Step) -> None:
            if self._is_empty or not (step.it == 0 or step == end):
                return
            loss, correct, examples = self._sums.tolist()
            if self._is_whole:
                metrics.add("train_loss", step.iteration, loss / examples)
                metrics.add("train_accuracy", step.iteration, correct / examples)
            self._sums.zero_()
            self._is_empty, self._is_whole = True, True

        return called

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, for checkpoints; empty if they lack part of the epoch."""
        return {"sums": self._sums.cpu()} if self._is_whole else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore from a checkpoint. If it has no sums, its epoch is not recorded."""
        self._is_whole = "sums" in state
        if self._is_whole:
            self._sums.copy_(state["sums"])
            self._is_empty = state["sums"][2].item() == 0
