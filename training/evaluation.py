"""Measuring a model on the test set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# With fewer classes, being among the first five says little.
_CLASSES_FOR_TOP5 = 20


class TestBatches(Protocol):
    """What evaluation needs of a data loader."""

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches (images, labels) of the test set, in order."""


def evaluate(
    model: nn.Module,
    loader: TestBatches,
    outputs: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, float]:
    """Return test_loss (mean cross-entropy), test_accuracy and, with more than 20 outputs, test_top5accuracy.

    Accuracies are fractions from 0 to 1. The model is measured in eval mode and left in the mode it had.
    """
    was_training = model.training
    model.eval()
    sums: Tensor | None = None
    examples = 0
    with torch.no_grad():
        for images, labels in loader.test_batches():
            with autocast():
                logits = model(images)
            logits = logits.float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
            in_top5 = (logits.topk(min(5, outputs), 1).indices == labels[:, None]).sum()
            # Sums stay on the device, so that a GPU is not waited for after each batch.
            batch = torch.stack([loss, correct.to(loss.dtype), in_top5.to(loss.dtype)])
            batch = batch if batch.device.type == "mps" else batch.double()
            sums = batch if sums is None else sums + batch
            examples += len(labels)
    model.train(was_training)
    loss_sum, correct_sum, top5_sum = sums.tolist() if sums is not None else (0.0, 0.0, 0.0)
    measured = {"test_loss": loss_sum / examples, "test_accuracy": correct_sum / examples}
    if outputs > _CLASSES_FOR_TOP5:
        measured["test_top5accuracy"] = top5_sum / examples
    return measured
