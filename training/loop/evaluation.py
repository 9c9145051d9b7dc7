"""Evaluating a model on examples that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# With fewer outputs there is no top five.
_OUTPUTS_FOR_TOP5 = 5


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the cross-entropies of a batch. logits: float (B, outputs). labels: int64 (B,)."""
    return F.cross_entropy(logits, labels, reduction="sum")


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    outputs: int,
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    examples_are: str = "test",
    loss: Callable[[Tensor, Tensor], Tensor] = cross_entropies,
    over_processes: Callable[[Tensor | None, int], tuple[Tensor | None, int]] | None = None,
) -> dict[str, float]:
    """Return test_loss, test_accuracy and, with 5 outputs or more, test_top5accuracy.

    Accuracies are fractions from 0 to 1. The model is evaluated in eval mode and left in the mode it had.
    batches: images and labels. examples_are: the prefix of the names. loss: maps the logits and labels of a batch to
    the sum of its losses, by default cross-entropies; the result is the mean over all examples.
    over_processes: if the batches are a process's part, maps its sums and number of examples to the sums and number
    over all processes.
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
            total = loss(logits, labels)
            correct = (logits.argmax(1) == labels).sum()
            in_top5 = (logits.topk(min(5, outputs), 1).indices == labels[:, None]).sum()
            # Sums stay on the device, so that the loop does not wait for a GPU after each batch.
            batch = torch.stack([total, correct.to(total.dtype), in_top5.to(total.dtype)])
            batch = batch if batch.device.type == "mps" else batch.double()
            sums = batch if sums is None else sums + batch
            examples += len(labels)
    model.train(was_training)
    if over_processes is not None:
        sums, examples = over_processes(sums, examples)
    loss_sum, correct_sum, top5_sum = sums.tolist() if sums is not None else (0.0, 0.0, 0.0)
    measured = {"loss": loss_sum / examples, "accuracy": correct_sum / examples}
    if outputs >= _OUTPUTS_FOR_TOP5:
        measured["top5accuracy"] = top5_sum / examples
    return {f"{examples_are}_{name}": value for name, value in measured.items()}
