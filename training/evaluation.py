"""Evaluating a model on examples that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# With fewer classes, being among the first five says little.
_CLASSES_FOR_TOP5 = 20


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    outputs: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    examples_are: str = "test",
) -> dict[str, float]:
    """Return test_loss (mean cross-entropy), test_accuracy and, with more than 20 outputs, test_top5accuracy.

    Accuracies are fractions from 0 to 1. The model is evaluated in eval mode and left in the mode it had.
    batches: images and labels. examples_are: the prefix of the names.
    """
    was_training = model.training
    model.eval()
    sums: Tensor | None = None
    examples = 0
    with torch.no_grad():
        for images, labels in batches:
            with autocast():
                logits = model(images)
            logits = logits.float()
            loss = F.cross_entropy(logits, labels, reduction="sum")
            correct = (logits.argmax(1) == labels).sum()
            in_top5 = (logits.topk(min(5, outputs), 1).indices == labels[:, None]).sum()
            # Sums stay on the device, so that the loop does not wait for a GPU after each batch.
            batch = torch.stack([loss, correct.to(loss.dtype), in_top5.to(loss.dtype)])
            batch = batch if batch.device.type == "mps" else batch.double()
            sums = batch if sums is None else sums + batch
            examples += len(labels)
    model.train(was_training)
    loss_sum, correct_sum, top5_sum = sums.tolist() if sums is not None else (0.0, 0.0, 0.0)
    measured = {"loss": loss_sum / examples, "accuracy": correct_sum / examples}
    if outputs > _CLASSES_FOR_TOP5:
        measured["top5accuracy"] = top5_sum / examples
    return {f"{examples_are}_{name}": value for name, value in measured.items()}
