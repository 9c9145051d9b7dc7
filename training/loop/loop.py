"""The training loop. Callbacks act around a step; hooks of techniques change the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from foundations.description.step import Step
from training.all_hooks import AllHooks

Batch = tuple[Tensor, Tensor]
"""Images float (B, C, H, W), labels int64 (B,)."""
Callback = Callable[[Step], None]
_NO_HOOKS = AllHooks()


class TrainBatches(Protocol):
    """The part of a data loader that the loop uses."""

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches (images, labels) of an epoch, from its batch number `first` on."""


def steps(
    optimizer: Optimizer,
    loader: TrainBatches,
    learning_rate: Callable[[int], float],
    start: Step,
    end: Step,
    callbacks: Sequence[Callback] = (),
    hooks: AllHooks = _NO_HOOKS,
    scaler: torch.amp.GradScaler | None = None,
    clip: Callable[[], None] | None = None,
) -> Iterator[Batch]:
    """Train from one step to another; yield the batch of each step, for the caller to compute its gradients.

    Before the caller asks for the next batch, it must put the gradients of the loss, multiplied by the scaler's scale,
    into the parameters. So it can compute the gradients of several trainings at once (`training.jobs.together`).

    Before the update of each step, and once more at the end, every callback is called with the step: it sees the state
    at that step. learning_rate maps an iteration (from 0), less the iterations that a technique skips, to the learning
    rate of its update. clip: called before each update, with unscaled gradients, to clip them in place.
    """
    scaler = scaler or torch.amp.GradScaler(enabled=False)
    batches = _batches(loader, start)
    for iteration in range(start.iteration, end.iteration):
        step = start.at(iteration)
        hooks.before_step(step)
        for callback in callbacks:
            callback(step)
        rate = hooks.learning_rate(step, learning_rate(iteration - hooks.skipped_before(step)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        yield next(batches)
        if hooks or clip is not None:
            scaler.unscale_(optimizer)
        if not hooks.after_backward(step):
            if clip is not None:
                clip()
            scaler.step(optimizer)
        scaler.update()
        hooks.after_step(step)
    hooks.before_step(end)
    for callback in callbacks:
        callback(end)


def _batches(loader: TrainBatches, start: Step) -> Iterator[Batch]:
    epoch, first = start.ep, start.it
    while True:
        yield from loader.train_batches(epoch, first)
        epoch, first = epoch + 1, 0
