"""Values that pruned weights would have if a mask multiplied them in the forward pass, as in google-research/rigl.

There, a pruned weight gets no gradient of the loss, but weight decay and its momentum; here it is 0. New weights that
are drawn with the deviation or the mean magnitude of a layer's weights depend on the raw values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pruning.masks.mask import Mask


@dataclass
class RawWeights:
    """The raw values of the weights of a mask, kept beside a training.

    Exact for sgd, with momentum of either kind. Other optimizers adapt to gradients that pruned weights do not have:
    there, the values of pruned weights stay as they are.
    """

    values: dict[str, Tensor]
    """By name; at first, before a mask is on the network."""
    momentum: dict[str, Tensor]

    def step(self, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Move the raw values as a step of the optimizer moves weights without a gradient of the loss."""
        import torch

        if not isinstance(optimizer, torch.optim.SGD):
            return
        group_of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        for name, weight in weights.items():
            group, value = group_of[id(weight)], self.values[name]
            decay = group["weight_decay"] * value
            change = decay
            if group["momentum"]:
                momentum = self.momentum.get(name, torch.zeros_like(value)) * group["momentum"] + decay
                self.momentum[name] = momentum
                change = decay + group["momentum"] * momentum if group["nesterov"] else momentum
            self.values[name] = value - group["lr"] * change

    def take(self, mask: Mask, weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Take the values and the momentum of the weights that a mask keeps; pruned weights keep their raw values."""
        import torch

        for name, weight in weights.items():
            kept = mask[name].to(weight.device)
            self.values[name] = torch.where(kept, weight.detach(), self.values[name])
            momentum = optimizer.state.get(weight, {}).get("momentum_buffer")
            if momentum is not None:
                before = self.momentum.get(name, torch.zeros_like(momentum))
                self.momentum[name] = torch.where(kept, momentum, before)
