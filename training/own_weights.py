"""Weights that are not parameters of the network: those that techniques compute, own, or have as their outcome."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from foundations.description.step import Step
from foundations.errors import UsageError
from training.forward_weights import ForwardWeights
from training.own_parameters import OwnParameters
from training.technique import Hooks, Training

if TYPE_CHECKING:
    from pruning.masks.mask import Mask

_HOOKS = ("effective", "parameter_groups", "frozen", "outcome")
_OWN, _ENDED = "/optimizer/", "/ended"


class OwnWeights:
    """Effective weights, parameters and outcomes of the techniques of a training."""

    def __init__(self, training: Training, each: Sequence[Hooks[Any]]) -> None:
        """Take the training and the hooks of its techniques, in their order. `begin` starts."""
        self._training, self._each = training, each
        self.forward = ForwardWeights(training.model, self.effective)
        self.parameters = OwnParameters(training.optimizer)
        self._frozen: list[nn.Parameter] = []
        self._has_ended = False

    @classmethod
    def of(cls, training: Training, each: Sequence[Hooks[Any]]) -> OwnWeights | None:
        """Return those of a training; None if no technique has one of their hooks."""
        uses = any(_is_own(hooks, name) for hooks in each for name in _HOOKS)
        return cls(training, each) if uses else None

    def effective(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights that techniques change, each after those before it.

        A technique may call a tied parameter by any of its names: masks have the alphabetically first.
        """
        first = self.forward.first_names
        changed: dict[str, Tensor] = {}
        for hooks in self._each:
            found = hooks.effective(_ByAnyName({**weights, **changed}, first))
            changed |= {first.get(name, name): tensor for name, tensor in found.items()}
        return changed

    def begin(self) -> None:
        """Freeze parameters, add those that techniques own to the optimizer, and use the effective weights."""
        self.leave()
        if not self._has_ended:
            self._freeze()
        self.parameters.add([group for hooks in self._each for group in hooks.parameter_groups()])
        if not self._has_ended and any(_is_own(hooks, "effective") for hooks in self._each):
            self.forward.install()

    @property
    def freezes(self) -> bool:
        """Whether parameters of the network do not train at present."""
        return bool(self._frozen)

    def _freeze(self) -> None:
        parameters = dict(self._training.model.named_parameters(remove_duplicate=False))
        names = list(itertools.chain.from_iterable(hooks.frozen() for hooks in self._each))
        if unknown := [name for name in names if name not in parameters]:
            raise UsageError(f"it freezes '{unknown[0]}', which the network does not have.", "technique")
        found = {id(parameters[name]): parameters[name] for name in names}.values()
        self._frozen = [parameter for parameter in found if parameter.requires_grad]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
            parameter.grad = None

    def _thaw(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_()
        self._frozen = []

    def leave(self) -> None:
        """Undo `begin`: the parameters of the network, as they are, are its weights, and train."""
        self.forward.remove()
        self.parameters.remove()
        self._thaw()

    def act(self, step: Step) -> None:
        """At the last step, write the effective weights into the parameters, and put the outcome on them."""
        self.forward.restore()
        if self._has_ended or step != self._training.end:
            return
        masks = [mask for hooks in self._each if (mask := hooks.outcome()) is not None]
        if self.forward.is_installed:
            self.forward.bake()
            self.forward.remove()
        for mask in masks:
            found = _within(mask, self._training.mask)
            found.apply_(self._training.model)
            self._training.set_mask(found)
        self._thaw()
        self._has_ended = True

    def evaluated(self) -> AbstractContextManager[None]:
        """Inside the block, the parameters are the effective weights."""
        return self.forward.baked()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors that checkpoints hold."""
        own = {_OWN + name: tensor for name, tensor in self.parameters.state_dict().items()}
        return own | ({_ENDED: torch.tensor(True)} if self._has_ended else {})

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `state_dict`, after the techniques have loaded theirs, and begin."""
        self._has_ended = _ENDED in state
        self.begin()
        self.parameters.load_state_dict(
            {name.removeprefix(_OWN): tensor for name, tensor in state.items() if name.startswith(_OWN)}
        )


class _ByAnyName(Mapping[str, Tensor]):
    """Tensors by name, each listed once and found under every name of its parameter."""

    def __init__(self, tensors: Mapping[str, Tensor], first: Mapping[str, str]) -> None:
        self._tensors, self._first = tensors, first

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._first.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _is_own(hooks: Hooks[Any], name: str) -> bool:
    return getattr(type(hooks), name) is not getattr(Hooks, name)


def _within(mask: Mask, present: Mask | None) -> Mask:
    """Return an outcome within the mask that the training has."""
    if present is None:
        return mask
    both = {name: kept & present[name] if name in present else kept for name, kept in mask.items()}
    return mask.with_tensors({**present, **both})
