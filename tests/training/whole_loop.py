"""The training loop with the gradients of one network, whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from foundations.description.step import Step
from training.all_hooks import AllHooks
from training.loop.loop import Callback, TrainBatches, steps

NO_HOOKS = AllHooks()


def train(
    model: nn.Module,
    optimizer: Optimizer,
    loader: TrainBatches,
    loss: Callable[[Tensor, Tensor], Tensor],
    learning_rate: Callable[[int], float],
    start: Step,
    end: Step,
    callbacks: Sequence[Callback] = (),
    hooks: AllHooks = NO_HOOKS,
) -> None:
    """Train from one step to another, as `steps` says. loss: of the logits of a batch and its labels."""
    model.train()
    for images, labels in steps(optimizer, loader, learning_rate, start, end, callbacks, hooks):
        optimizer.zero_grad(set_to_none=True)
        loss(model(images), labels).backward()
