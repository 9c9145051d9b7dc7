"""Keeping pruned weights at zero while an optimizer trains."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_not

import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.optimizer_state import elementwise_state, entry_of, warn_of_left_state
from pruning.weights.shards import is_sharded, local, part_of

_SHOWN = 4


class PrunedToZero:
    """Sets the pruned weights of a mask, and an optimizer's state for them, to zero."""

    def __init__(self, mask: Mapping[str, torch.Tensor]) -> None:
        self._mask = mask
        self._factors: dict[tuple[str, torch.device], torch.Tensor] = {}
        self._products = _Products()
        self._keys: tuple[object, tuple[str, ...]] = None, ()
        self._has_warned = False

    @torch.no_grad()
    def enforce(
        self,
        weights: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer | None = None,
        state: Collection[str] | str | None = None,
    ) -> None:
        """Zero the pruned entries of `weights`, by their names in the mask, and their elementwise optimizer state.

        state: names of further elementwise state, if the optimizer's own class is not one of torch.optim
        (`pruning.masks.optimizer_state`). State that may or may not be elementwise is left alone, with one warning.
        """
        entries = [{} if optimizer is None else entry_of(optimizer, weight) for weight in weights.values()]
        if not self._products.are_of(weights.values(), entries):
            keys = () if optimizer is None else self._elementwise(optimizer, state)
            self._products = self._products_of(weights, entries, keys)
            if optimizer is not None and not self._has_warned:
                self._has_warned = warn_of_left_state(optimizer, list(weights.values()), state)
        if self._products.tensors:
            torch._foreach_mul_(self._products.tensors, self._products.factors)

    def _elementwise(self, optimizer: torch.optim.Optimizer, state: Collection[str] | str | None) -> tuple[str, ...]:
        """Return the keys of the elementwise state, which depend on the optimizer's class alone."""
        key = type(optimizer), state
        if self._keys[0] != key:
            self._keys = key, elementwise_state(optimizer, state)
        return self._keys[1]

    def _products_of(
        self,
        weights: Mapping[str, torch.Tensor],
        entries: Sequence[_Entry],
        keys: Sequence[str],
    ) -> _Products:
        tensors: list[torch.Tensor] = []
        factors: list[torch.Tensor] = []
        for (name, weight), entry in zip(weights.items(), entries, strict=True):
            factor = self._factor(name, weight)
            for tensor in (weight, *(entry.get(key) for key in keys)):
                if isinstance(tensor, torch.Tensor) and tensor.shape == weight.shape:
                    tensors.append(local(tensor))
                    factors.append(factor if factor.dtype == tensor.dtype else factor.to(tensor.dtype))
        identities = [_identity(weight, entry) for weight, entry in zip(weights.values(), entries, strict=True)]
        return _Products(tensors, factors, identities, not any(map(is_sharded, weights.values())))

    def _factor(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the mask of a weight, or of this process's part of it, in its dtype and on its device.

        Replicas of a network are on several devices.
        """
        factor = self._factors.get((name, weight.device))
        if factor is None or factor.dtype != weight.dtype:
            factor = self._factors[name, weight.device] = part_of(self._mask[name], weight).to(weight.dtype)
        return factor


_Entry = Mapping[object, object]


@dataclass(frozen=True)
class _Products:
    """The tensors to multiply by the mask, and the factor of each: looked up again only where there are others."""

    tensors: list[torch.Tensor] = field(default_factory=list)
    factors: list[torch.Tensor] = field(default_factory=list)
    identities: Sequence[tuple[object, ...]] = ()
    """Of each weight and the tensors of its state: the objects, and then the device."""
    are_whole: bool = False
    """Whether no weight is sharded over processes; then it may have another part next time."""

    def are_of(self, weights: Collection[torch.Tensor], entries: Sequence[_Entry]) -> bool:
        """Whether they are those of some weights and their state."""
        if not self.are_whole or len(self.identities) != len(weights):
            return False
        for (*known, device), weight, entry in zip(self.identities, weights, entries, strict=True):
            *present, present_device = _identity(weight, entry)
            if present_device != device or len(known) != len(present) or any(map(is_not, known, present)):
                return False
        return True


def _identity(weight: torch.Tensor, entry: _Entry) -> tuple[object, ...]:
    """Return objects, and then the device, that are others if the weight, its data or the tensors of its state are."""
    tensors = [value for value in entry.values() if isinstance(value, torch.Tensor)]
    return weight, weight.dtype, *tensors, weight.device


class AttachedMask:
    """Keeps pruned weights, and the optimizer's state for them, at zero: now and after each step of the optimizer."""

    def __init__(
        self,
        mask: Mapping[str, torch.Tensor],
        weights: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        state: Collection[str] | str | None = None,
        *,
        keeps_state: bool = False,
        masks_gradients: bool = False,
    ) -> None:
        """Zero the pruned weights, by name as in the mask, and their state; state: as in `PrunedToZero.enforce`.

        keeps_state: leave the state alone. masks_gradients: zero the gradients of pruned weights before each step.

        Zeroes pruned weights after each step, including those that the optimizer does not hold. Warns of these if they
        require gradients: another optimizer may train them.
        Raises: UsageError if the optimizer holds none of the weights, unless they are all frozen, or has no hooks.
        """
        if not hasattr(optimizer, "_optimizer_step_post_hooks"):
            kind = type(optimizer).__name__
            raise UsageError(f"{kind} does not call Optimizer.__init__; pass the optimizer that it wraps.", "optimizer")
        _check_held(weights, optimizer)
        self._pruned = PrunedToZero(mask)
        self._weights = weights
        self._optimizer = optimizer
        self._state = state
        self._keeps_state = keeps_state
        self._hooks = [optimizer.register_step_post_hook(lambda *_: self.enforce())]
        if masks_gradients:
            self._hooks.append(optimizer.register_step_pre_hook(lambda *_: self.mask_gradients()))
        with torch.no_grad():
            for name, weight in weights.items():
                # A pruned weight that is -0.0 (a product has a sign) stays so: training resumes to the same bytes.
                part = local(weight)
                part.masked_fill_(~part_of(mask[name], weight) & (part != 0), 0)
        self.enforce()

    def enforce(self) -> None:
        """Zero the pruned weights and, unless it is left alone, the optimizer's elementwise state for them."""
        self._pruned.enforce(self._weights, None if self._keeps_state else self._optimizer, self._state)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights."""
        self._pruned.enforce({name: weight.grad for name, weight in self._weights.items() if weight.grad is not None})

    @torch.no_grad()
    def kept_gradients(self) -> dict[nn.Parameter, torch.Tensor]:
        """Return the gradients of the weights, with zeros for pruned ones. Weights without a gradient are absent."""
        found = {name: weight.grad.clone() for name, weight in self._weights.items() if weight.grad is not None}
        self._pruned.enforce(found)
        return {self._weights[name]: gradient for name, gradient in found.items()}

    def detach(self) -> None:
        """Stop: the optimizer may move the pruned weights again."""
        for hook in self._hooks:
            hook.remove()


def _check_held(weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = {id(parameter) for parameter in parameters}
    missing = [name for name, weight in weights.items() if id(weight) not in held]
    trained = [name for name in missing if weights[name].requires_grad]
    if not trained:
        return
    if len(missing) < len(weights):
        message = (
            f"the optimizer does not hold {_listed(trained)} ({len(trained)} of the mask's {len(weights)} tensors). "
            "If another optimizer trains them, attach the mask to that one as well."
        )
        warnings.warn(message, UserWarning, stacklevel=4)
        return
    counts = Counter(tuple(weight.shape) for weight in weights.values())
    is_copy = not counts - Counter(tuple(parameter.shape) for parameter in parameters)
    other = "holds parameters of the same shapes, of a copy of the network" if is_copy else "is of another network"
    raise UsageError(
        f"it holds none of the {len(weights)} tensors of the mask: it {other}. "
        "Make it from the parameters of the network that the mask is for, or pass the other network as `model`.",
        "optimizer",
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
