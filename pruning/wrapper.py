"""Iterative pruning of any network by hand: wrap it, train it, prune it, rewind it, again and again."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import nn

from foundations.errors import UsageError, invalid
from foundations.random_streams import global_generator_from
from pruning.attached_mask import AttachedMask
from pruning.mask import Mask
from pruning.prunable import LAYER_TYPES
from pruning.prune import prune


class PruningWrapper(nn.Module):
    """A network together with its mask and the weights to rewind to.

        wrapper = PruningWrapper(model, prune_rate=0.2)
        for round in range(25):
            optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1)
            wrapper.attach(optimizer)
            train(wrapper, optimizer)
            wrapper.prune_weights()
            wrapper.reinitialize()

    prune_rate: the share of the weights that are left that each round prunes. method: 'magnitude' (global) or 'random'.
    layer_types: the layers whose weights are pruned. seed: of random pruning and random reinitialization.
    """

    def __init__(
        self,
        model: nn.Module,
        prune_rate: float = 0.2,
        *,
        method: Literal["magnitude", "random"] = "magnitude",
        layer_types: tuple[type[nn.Module], ...] = LAYER_TYPES,
        seed: int = 0,
    ) -> None:
        """Wrap `model`; its present state is the one to rewind to. Raises: UsageError for a wrong rate or method."""
        super().__init__()
        if not 0 <= prune_rate <= 1:
            raise _wrong_rate(prune_rate)
        if method not in ("magnitude", "random"):
            raise invalid(method, "method", ("magnitude", "random"))
        self.model = model
        self.prune_rate = prune_rate
        self.method = method
        self.seed = seed
        self.rounds = 0
        self.mask = Mask.ones(model, layer_types)
        self._attached: AttachedMask | None = None
        self._initial: dict[str, Any] = {}
        self.set_initial_weights()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self.model(*args, **kwargs)

    def set_initial_weights(self) -> None:
        """Store the present state (buffers included) as the one that `reinitialize` goes back to."""
        self._initial = copy.deepcopy(self.model.state_dict())

    def attach(self, optimizer: torch.optim.Optimizer) -> AttachedMask:
        """Keep pruned weights at zero while `optimizer` trains. The optimizer attached before is detached."""
        if self._attached is not None:
            self._attached.detach()
        self._attached = self.mask.attach(optimizer, self.model)
        return self._attached

    def prune_weights(self, prune_rate: float | None = None) -> Mask:
        """Prune another share of the weights that are left, set them to zero, and return the mask.

        The mask is detached from its optimizer: attach the next round's optimizer. Raises: UsageError for a rate
        outside [0, 1].
        """
        rate = self.prune_rate if prune_rate is None else prune_rate
        if not 0 <= rate <= 1:
            raise _wrong_rate(rate)
        if self._attached is not None:
            self._attached.detach()
            self._attached = None
        keep = self.mask.kept - round(self.mask.kept * rate)
        self.rounds += 1
        self.mask = prune(self.model, self.method, keep=keep, mask=self.mask, seed=self.seed + self.rounds)
        self.mask.apply_(self.model)
        return self.mask

    def reinitialize(self, *, randomly: bool = False) -> None:
        """Go back to the stored state and apply the mask.

        randomly: draw new weights by each layer's `reset_parameters` instead.
        """
        if randomly:
            with global_generator_from("reinitialization", self.seed, self.rounds):
                for module in self.model.modules():
                    reset = getattr(module, "reset_parameters", None)
                    if callable(reset):
                        reset()
        else:
            self.model.load_state_dict(self._initial)
        self.mask.apply_(self.model)

    def calculate_percent_pruned(self) -> tuple[int, int, float]:
        """Return the number of pruned weights, the number of prunable ones, and the percentage that is pruned."""
        return self.mask.pruned, self.mask.total, 100 * self.mask.sparsity


def _wrong_rate(rate: float) -> UsageError:
    return UsageError(f"{rate} is not a valid value; it must be at least 0 and at most 1.", "prune_rate")
