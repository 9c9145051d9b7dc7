"""The step of an optimizer of a user's own: its gradients, its closure and its learning rates."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from foundations.errors import UsageError


def check_optimizer(optimizer: Any) -> None:
    """Check that techniques can act around the steps of an optimizer. Raises: UsageError."""
    if not isinstance(optimizer, Optimizer):
        raise UsageError(f"it must be a torch.optim.Optimizer, and not a {type(optimizer).__name__}.", "optimizer")
    if isinstance(optimizer, LBFGS):
        _refuse_several_losses(optimizer)


def has_gradients(optimizer: Optimizer) -> bool:
    """Return whether a parameter of the optimizer has a gradient."""
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def unscale_gradients(optimizer: Optimizer) -> None:
    """Unscale the gradients, where a GradScaler leaves that to an optimizer with fused kernels."""
    scale = getattr(optimizer, "grad_scale", None)
    if scale is not None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.div_(scale.to(parameter.grad.device))
        optimizer.grad_scale = None  # type: ignore[attr-defined]


def average_over_processes(parameters: Sequence[Tensor]) -> None:
    """Average the gradients of parameters over all processes, as DistributedDataParallel does with the network's."""
    if not parameters or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    count = torch.distributed.get_world_size()
    if count > 1:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad.div_(count)


@contextlib.contextmanager
def changed_rates(optimizer: Optimizer, change: Callable[[float], float]) -> Iterator[None]:
    """Inside the block, let the learning rate of each group be that of a function of it."""
    groups = list(optimizer.param_groups)
    former = [group["lr"] for group in groups]
    for group in groups:
        rate = change(float(group["lr"]))
        group["lr"] = torch.full_like(group["lr"], rate) if isinstance(group["lr"], Tensor) else rate
    try:
        yield
    finally:
        for group, rate in zip(groups, former, strict=True):
            group["lr"] = rate


def computed_once(optimizer: Optimizer, value: Any) -> Callable[[], Any]:
    """Return a closure for the optimizer's step, which has the loss already. Raises: UsageError as it is called.

    An optimizer that calls it once more, or after it has moved the weights, needs the loss at other weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    before, calls = [weight._version for weight in weights], itertools.count()

    def closure() -> Any:
        if next(calls) or [weight._version for weight in weights] != before:
            _refuse_several_losses(optimizer)
        return value

    return closure


def _refuse_several_losses(optimizer: Optimizer) -> NoReturn:
    kind = type(optimizer).__name__
    raise UsageError(f"{kind} computes the loss several times in a step; use another optimizer.", "optimizer")
