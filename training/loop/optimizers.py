"""The optimizers by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from foundations.errors import DamagedError
from training.hparams import TrainingHparams

AnyOptimizer = TypeVar("AnyOptimizer", bound=Optimizer)
_KEPT_FROM_COMPILER = ("add_param_group", "state_dict", "load_state_dict")


def make_optimizer(
    hparams: TrainingHparams, parameters: Iterable[Tensor], undecayed: Iterable[Tensor] = ()
) -> Optimizer:
    """Return the optimizer over all parameters, biases and batchnorm included.

    undecayed: parameters without weight decay. They are a group of their own, after the others.
    The fused kernels update each tensor in one pass: on CPUs a few times faster than one operation after another.
    """
    trained: list[Any] = [parameter for parameter in parameters if parameter.requires_grad]
    fused = bool(trained) and all(parameter.device.type in ("cpu", "cuda") for parameter in trained)
    without = {id(parameter) for parameter in undecayed}
    groups = [[p for p in trained if id(p) not in without], [p for p in trained if id(p) in without]]
    if groups[1]:
        trained = [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}]
    momentum, nesterov = hparams.momentum or hparams.nesterov_momentum, hparams.nesterov_momentum > 0
    betas = (hparams.adam_beta1, hparams.adam_beta2)
    adaptive = {"betas": betas, "eps": hparams.adam_epsilon, "fused": fused}
    kinds: dict[str, tuple[type[Any], dict[str, Any]]] = {
        "sgd": (SGD, {"momentum": momentum, "nesterov": nesterov, "fused": fused}),
        "rmsprop": (RMSprop, {"momentum": hparams.momentum}),
        "adam": (Adam, adaptive),
        "adamw": (AdamW, adaptive),
    }
    kind, options = kinds[hparams.optimizer_name]
    made: Optimizer = _light(kind)(trained, lr=hparams.lr, weight_decay=hparams.weight_decay, **options)
    return made


def _light(kind: type[AnyOptimizer]) -> type[AnyOptimizer]:
    """Return a class of optimizers that neither imports PyTorch's compiler nor tells its profiler.

    PyTorch wraps optimizers to exclude them from compiled functions, and the wrapper imports the compiler, which takes
    a second. No step here is compiled. Another wrapper gives each step a name for the profiler, which takes as long as
    a small layer; `hooked` says that hooks are called here.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in _KEPT_FROM_COMPILER}
    stepped = torch.no_grad()(inspect.unwrap(kind.step))

    def step(self: Optimizer, *arguments: Any, **named: Any) -> Any:
        for before in (*_global_optimizer_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()):
            arguments, named = before(self, arguments, named) or (arguments, named)
        # PyTorch's fused SGD leaves momentum without values where a scaler skips the first step of all.
        found_inf = getattr(self, "found_inf", None)
        is_skipped = found_inf is not None and not self.state and found_inf.item()
        out = None if is_skipped else stepped(self, *arguments, **named)
        for after in (*self._optimizer_step_post_hooks.values(), *_global_optimizer_post_hooks.values()):
            after(self, arguments, named)
        return out

    step.hooked = True  # type: ignore[attr-defined]
    return cast("type[AnyOptimizer]", type(kind.__name__, (kind,), {**methods, "step": step, "zero_grad": _zero_grad}))


def _zero_grad(optimizer: Optimizer, set_to_none: bool = True) -> None:
    """Drop all gradients, without telling the profiler."""
    assert set_to_none
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as named tensors (`<index of the parameter>.<name>`), without pickles."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Load the result of `optimizer_tensors`. Raises: DamagedError if it is of another network."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        if int(index) >= len(parameters) or tensor.shape not in (parameters[int(index)].shape, torch.Size()):
            raise DamagedError(f"The checkpoint is of another network: its optimizer's '{name}' fits no parameter.")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter).copy_(value)
