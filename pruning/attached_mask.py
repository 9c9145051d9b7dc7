"""Keeping pruned weights at zero while an optimizer trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class PrunedToZero:
    """Sets the pruned weights of a mask, and an optimizer's state for them, to zero."""

    def __init__(self, mask: Mapping[str, torch.Tensor]) -> None:
        self._mask = mask
        self._factors: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def enforce(self, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer | None) -> None:
        """Zero `weights`, by their names in the mask, and every tensor of the optimizer's state of a weight's shape."""
        tensors: list[torch.Tensor] = []
        factors: list[torch.Tensor] = []
        for name, weight in weights.items():
            factor = self._factors.get(name)
            if factor is None or factor.device != weight.device or factor.dtype != weight.dtype:
                factor = self._mask[name].to(weight.device, weight.dtype)
                self._factors[name] = factor
            state = {} if optimizer is None else optimizer.state.get(weight, {})
            for tensor in (weight, *state.values()):
                if isinstance(tensor, torch.Tensor) and tensor.shape == weight.shape:
                    tensors.append(tensor)
                    factors.append(factor if factor.dtype == tensor.dtype else factor.to(tensor.dtype))
        if tensors:
            torch._foreach_mul_(tensors, factors)


class AttachedMask:
    """Keeps pruned weights, and the optimizer's state for them, at zero: now and after each step of the optimizer."""

    def __init__(
        self, mask: Mapping[str, torch.Tensor], weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self._pruned = PrunedToZero(mask)
        self._weights = weights
        self._optimizer = optimizer
        self._hook = optimizer.register_step_post_hook(lambda *_: self.enforce())
        with torch.no_grad():
            for name, weight in weights.items():
                # A pruned weight that is -0.0 (a product has a sign) stays so: training resumes to the same bytes.
                weight.masked_fill_(~mask[name].to(weight.device) & (weight != 0), 0)
        self.enforce()

    @torch.no_grad()
    def enforce(self) -> None:
        """Zero the pruned weights and the optimizer's state for them: every state tensor of the weight's own shape."""
        self._pruned.enforce(self._weights, self._optimizer)

    def detach(self) -> None:
        """Stop: the optimizer may move the pruned weights again."""
        self._hook.remove()
