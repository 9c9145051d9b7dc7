"""Checks of what the hooks of a plug-in's technique return."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from foundations.errors import PluginError
from foundations.plugins.users_code import article, check_methods, mistake, place_of_call, place_of_entry
from training.technique import Hooks, ParameterGroup, Technique, TechniqueHparams, Training

if TYPE_CHECKING:
    from pruning.masks.mask import Mask


def hooks_of(technique: Technique, training: Training, hparams: TechniqueHparams) -> Hooks[Any]:
    """Return a technique's hooks for a training. The hooks of a plug-in check their results at each call.

    Raises: PluginError if the technique returns no Hooks.
    """
    if technique.plugin is None:
        return technique.hooks(training, hparams)
    hooks = technique.hooks(cast("Training", _SeenTraining(training, technique)), hparams)
    if not isinstance(hooks, Hooks):
        raise mistake(technique.hooks, technique, f"returned {article(hooks)}; it must return a Hooks.")
    _check_methods(hooks, technique)
    for name, (is_right, words) in _RESULTS.items():
        is_own = getattr(type(hooks), name) is not getattr(Hooks, name)
        if is_own or name == "state_dict":
            blamed = getattr(hooks, name) if is_own else technique.hooks
            setattr(hooks, name, _checked(getattr(hooks, name), technique, is_right, words, blamed))
    return hooks


class _SeenTraining:
    """A training as the technique of a plug-in sees it: its mask changes only by `set_mask`, and where that is kept."""

    def __init__(self, training: Training, technique: Technique) -> None:
        vars(self).update(_training=training, _technique=technique)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_training"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "mask":
            raise self._mistake("assigns to training.mask, which changes nothing; call training.set_mask(mask).")
        setattr(self._training, name, value)

    def set_mask(self, mask: Mask | None) -> None:
        """Change the mask. Raises: PluginError where the technique does not declare that it does so."""
        if not self._technique.changes_mask:
            raise self._mistake("calls set_mask; declare it with changes_mask=True, so that runs keep the mask.")
        self._training.set_mask(mask)

    def _mistake(self, reason: str) -> PluginError:
        place = place_of_call() or place_of_entry(self._technique)
        return PluginError(f"{place}: the technique '{self._technique.spelling}' {reason}")


def _check_methods(hooks: Hooks[Any], technique: Technique) -> None:
    """Check that there is at least one hook, and that each takes the arguments of its calls.

    Raises: PluginError that names the method or the class.
    """
    own = [name for name in HOOKS if getattr(type(hooks), name) is not getattr(Hooks, name)]
    check_methods(hooks, Hooks, own, technique)
    if not own and technique.transform is None and type(hooks).__init__ is Hooks.__init__:
        raise mistake(technique.hooks, technique, f"has none of the hooks {', '.join(HOOKS)}.")


def transform_checked(technique: Technique, model: nn.Module, hparams: TechniqueHparams) -> None:
    """Let a technique change a network in place. Raises: PluginError if it returns another network instead."""
    assert technique.transform is not None
    returned: Any = technique.transform(model, hparams)
    if technique.plugin is not None and isinstance(returned, nn.Module) and returned is not model:
        reason = f"returned {article(returned)}; it must change the network that it is given, in place."
        raise mistake(technique.transform, technique, reason)


HOOKS = (
    "before_mask",
    "prepare",
    "before_step",
    "effective",
    "parameter_groups",
    "frozen",
    "learning_rate",
    "outcome",
    "metrics",
    "loss",
    "reported_loss",
    "evaluated",
    "after_backward",
    "skipped_before",
    "after_step",
)
"""The methods of Hooks that act on a training."""


def _checked(
    hook: Callable[..., Any],
    technique: Technique,
    is_right: Callable[[Any], bool],
    words: str,
    blamed: Callable[..., Any],
) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        result = hook(*arguments, **options)
        if not is_right(result):
            shown = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else article(result)
            raise mistake(blamed, technique, f"returned {shown}; it must return {words}.")
        return result

    return call


def _is_scalar(result: Any) -> bool:
    return isinstance(result, Tensor) and result.dim() == 0 and result.is_floating_point()


def _is_loss(result: Any) -> bool:
    return _is_scalar(result) and (result.requires_grad or not torch.is_grad_enabled())


def _is_choice(result: Any) -> bool:
    return isinstance(result, bool | np.bool_) or (isinstance(result, Tensor) and result.numel() == 1)


def _is_state(result: Any) -> bool:
    return isinstance(result, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in result.items()
    )


def _is_sequence_of(result: Any, kind: type) -> bool:
    return isinstance(result, Sequence) and not isinstance(result, str) and all(isinstance(x, kind) for x in result)


def _is_number(result: Any) -> bool:
    return isinstance(result, int | float) and math.isfinite(result)


def _is_rate(result: Any) -> bool:
    return _is_number(result) and result >= 0


def _is_outcome(result: Any) -> bool:
    from pruning.masks.mask import Mask

    return result is None or isinstance(result, Mask)


_RESULTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "loss": (_is_loss, "the loss, a float tensor of shape () with a gradient"),
    "reported_loss": (_is_scalar, "the sum of losses, a float tensor of shape ()"),
    "evaluated": (
        lambda result: isinstance(result, AbstractContextManager),
        "a context manager, in which the network is evaluated",
    ),
    "after_backward": (_is_choice, "whether to skip the optimizer's step, True or False"),
    "skipped_before": (lambda result: type(result) is int, "a number of iterations, an int"),
    "effective": (_is_state, "a dict of tensors by name"),
    "parameter_groups": (
        lambda result: _is_sequence_of(result, ParameterGroup),
        "a list of ParameterGroup",
    ),
    "frozen": (
        lambda result: isinstance(result, Collection) and _is_sequence_of(list(result), str),
        "the names of parameters",
    ),
    "learning_rate": (_is_rate, "a finite number of 0 or more"),
    "outcome": (_is_outcome, "a Mask or None"),
    "metrics": (
        lambda result: isinstance(result, Mapping) and all(map(_is_number, result.values())),
        "a dict of numbers by name",
    ),
    "state_dict": (_is_state, "a dict of tensors by name"),
}
"""The hooks that return something: a check of the result, and its description for messages."""
