"""Parameters that techniques own, in the optimizer of the network.

They stand at the end of the optimizer's first group, so that schedules of the learning rate, which count groups,
gradient scalers, clipping and `zero_grad` find them. During the optimizer's step they are in groups of their own. The
optimizer's state dict does not contain them: a fresh optimizer of the network can load it. `state_dict` here does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from foundations.errors import UsageError
from training.technique import ParameterGroup


class OwnParameters:
    """The groups of an optimizer that techniques own."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._groups: list[tuple[ParameterGroup, list[Tensor]]] = []
        self._handles: list[RemovableHandle] = []
        self._split: list[dict[str, Any]] = []
        """The groups of their own, during a step of the optimizer."""

    @property
    def tensors(self) -> list[Tensor]:
        """All parameters, in the order of their groups."""
        return [tensor for _, own in self._groups for tensor in own]

    def add(self, groups: Sequence[ParameterGroup]) -> None:
        """Train the parameters of some groups from now on. Raises: UsageError for options that the optimizer lacks."""
        # By name, since checkpoints do not keep the order.
        self._groups = [(group, [group.parameters[name] for name in sorted(group.parameters)]) for group in groups]
        if not self.tensors:
            return
        first = self._optimizer.param_groups[0]
        for group in groups:
            unknown = [name for name in group.options if name not in first]
            if unknown:
                kind = type(self._optimizer).__name__
                raise UsageError(f"{kind} has no {unknown[0]}, which a technique sets for its parameters.", "technique")
        for tensor in self.tensors:
            tensor.requires_grad_()
        first["params"] = [*first["params"], *self.tensors]
        self._handles = [
            self._optimizer.register_step_pre_hook(lambda *_: self._part()),
            self._optimizer.register_step_post_hook(lambda *_: self._join()),
            self._optimizer.register_state_dict_post_hook(lambda _, state: self._left_out(state)),
            self._optimizer.register_load_state_dict_pre_hook(lambda _, state: self._put_in(state)),
        ]

    def remove(self) -> None:
        """Train them no longer, and forget the optimizer's state of them."""
        self._join()
        for handle in self._handles:
            handle.remove()
        own = {id(tensor) for tensor in self.tensors}
        first = self._optimizer.param_groups[0]
        first["params"] = [each for each in first["params"] if id(each) not in own]
        for tensor in self.tensors:
            self._optimizer.state.pop(tensor, None)
            tensor.grad = None
        self._handles, self._groups = [], []

    def state_dict(self) -> dict[str, Tensor]:
        """Return the optimizer's state of them, by `<number>.<name>`."""
        return {
            f"{number}.{key}": value
            for number, tensor in enumerate(self.tensors)
            for key, value in self._optimizer.state.get(tensor, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `state_dict`."""
        group = self._optimizer.param_groups[0]
        for tensor in self.tensors:
            self._optimizer.state.pop(tensor, None)
        for name, value in state.items():
            number, _, key = name.partition(".")
            tensor = self.tensors[int(number)]
            on_cpu = key == "step" and not (group.get("fused") or group.get("capturable"))
            device = torch.device("cpu") if on_cpu else tensor.device
            self._optimizer.state[tensor][key] = value.to(device, copy=True)

    def _part(self) -> None:
        """Give them groups of their own, with the learning rate of the first group as it is now."""
        self._join()
        first = self._optimizer.param_groups[0]
        own = {id(tensor) for tensor in self.tensors}
        common = {key: value for key, value in first.items() if key not in ("params", "param_names")}
        self._split = [
            {
                **common,
                **group.options,
                "lr": first["lr"] * group.lr_factor if group.lr is None else group.lr,
                "params": tensors,
            }
            for group, tensors in self._groups
        ]
        first["params"] = [each for each in first["params"] if id(each) not in own]
        self._optimizer.param_groups.extend(self._split)

    def _join(self) -> None:
        """Put them back into the first group."""
        if not self._split:
            return
        groups, split = self._optimizer.param_groups, {id(group) for group in self._split}
        groups[:] = [group for group in groups if id(group) not in split]
        groups[0]["params"] = [*groups[0]["params"], *self.tensors]
        self._split = []

    def _left_out(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return a state dict of the optimizer without them."""
        own = {id(tensor) for tensor in self.tensors}
        order = [id(tensor) in own for group in self._optimizer.param_groups for tensor in group["params"]]
        number_of = {index: number for number, index in enumerate(i for i, is_own in enumerate(order) if not is_own)}
        groups = [
            {**group, "params": [number_of[index] for index in group["params"] if index in number_of]}
            for group in state["param_groups"]
        ]
        entries = {number_of[index]: value for index, value in state["state"].items() if index in number_of}
        return {**state, "state": entries, "param_groups": groups}

    def _put_in(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """Return a state dict of the optimizer, which is without them, with their present state."""
        if not state["param_groups"]:
            return None
        count = len(state["param_groups"][0]["params"])
        shift = len(self.tensors)

        def moved(index: int) -> int:
            return index if index < count else index + shift

        groups = [{**group, "params": [moved(index) for index in group["params"]]} for group in state["param_groups"]]
        groups[0]["params"] += range(count, count + shift)
        entries = {moved(index): value for index, value in state["state"].items()}
        own = {
            count + number: dict(self._optimizer.state[tensor])
            for number, tensor in enumerate(self.tensors)
            if tensor in self._optimizer.state
        }
        return {**state, "state": {**entries, **own}, "param_groups": groups}
