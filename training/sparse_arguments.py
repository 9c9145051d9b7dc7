"""The arguments of `training.sparse`: steps, names and values of techniques, and saved states."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from foundations.description.hparams import fields_of
from foundations.description.step import Step
from foundations.errors import UsageError, choose_from
from pruning.hparams import DEFAULT_LAYERS
from pruning.masks.mask import Mask
from pruning.scoring.arguments import plain
from pruning.weights.left_out import UnprunedWarning, left_out
from pruning.weights.shards import is_sharded
from training.hparams import TechniquesHparams
from training.registry import TECHNIQUES

_LAYERS = "prunable_layers"


def check_state(state: Any, own: Mapping[str, Any], *, begins_with_mask: bool) -> None:
    """Check that a state is of the same training. own: the present state. Raises: UsageError.

    begins_with_mask: whether the training had a mask before its first step, so that every state of it has one.
    """
    own = {name: value for name, value in own.items() if value is not None}
    if isinstance(state, Mapping) and state.get("mask") is None and not begins_with_mask:
        own.pop("mask", None)  # of a step at which nothing was pruned
    if not isinstance(state, Mapping) or any(
        not isinstance(state.get(name), Mapping if isinstance(value, Mapping) else type(value))
        for name, value in own.items()
    ):
        raise UsageError("it is not a state of this training; pass what its state_dict() returned.", "state")
    mine, others = ({**each["hparams"], "seed": each["seed"], "end": each["end"]} for each in (own, state))
    differing = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
    if differing:
        raise UsageError(f"it is of a training with another value of {', '.join(differing)}.", "state")
    if not 0 <= state["step"] <= state["end"]:
        raise UsageError(f"it is of step {state['step']}, and the training ends at {state['end']}.", "state")
    if not all(isinstance(tensor, Tensor) for tensor in state["tensors"].values()):
        raise UsageError("its tensors are not those of techniques.", "state")


def arguments_of(
    technique: str | None, options: Mapping[str, Any], *, has_mask: bool
) -> tuple[dict[str, Any], str | None]:
    """Return hyperparameters of techniques by name, and the one that `density` sets; None where none has a density.

    technique: their names; None keeps the mask alone, if there is one. Raises: UsageError as `values_of` and
    `density_of`.
    """
    if technique is None and has_mask:
        if options:
            raise UsageError("no technique is named that has such an option.", *options)
        return {}, None
    return values_of(technique, options), density_of(technique)


def refuse_whole_weights(network: nn.Module, techniques: TechniquesHparams) -> None:
    """Check that the techniques can use the weights, if these are sharded over processes. Raises: UsageError."""
    if any(map(is_sharded, network.parameters())):
        for technique, _ in techniques.parts:
            if not technique.takes_shards:
                name = technique.spelling
                words = f"{name} needs whole weights, and these are sharded over processes (FSDP2, DTensor)"
                raise UsageError(f"{words}; use DistributedDataParallel, or keep a mask alone.", "technique")


def values_of(technique: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters of techniques by name. Raises: UsageError for a name that is not valid."""
    if not isinstance(technique, str):
        raise UsageError(f"{technique!r} is not a valid value; it takes the names of techniques.", "technique")
    values = {name: plain(value) for name, value in options.items()}
    kind = TechniquesHparams.group_for({"technique": technique, **values})
    own = {each.name: each.rule for each in fields_of(kind) if each.name not in TechniquesHparams.names()}
    for name in values:
        if name not in own:
            taken = choose_from(name, own) if own else ", which takes none."
            raise UsageError(f"it is not an option of {technique}{taken}", name)
        if own[name].is_step:
            values[name] = written(values[name])
    return {"technique": technique, **values}


def density_of(names: Any) -> str | None:
    """Return the hyperparameter that `density` sets: that of the first technique that has one.

    Raises: UsageError for a technique that only jobs can use, and where none is named.
    """
    techniques = [TECHNIQUES.find(name.strip()) for name in names.split(",") if name.strip()]
    if not techniques:
        raise UsageError("name one, such as rigl.", "technique")
    for technique in techniques:
        if technique.transform is not None:
            words = f"{technique.spelling} replaces layers, which a job does before it makes the optimizer"
            raise UsageError(f"{words}; train with --technique={technique.spelling}.", "technique")
    return next((technique.density for technique in techniques if technique.density), None)


def written(step: Any) -> Any:
    """Return a step as jobs write it, for a number of steps."""
    step = plain(step)
    return f"{step}it" if isinstance(step, int) and not isinstance(step, bool) else step


def parsed(step: Any, per_epoch: int | None, name: str) -> Step:
    """Return a step; without the length of an epoch, all steps are one. Raises: UsageError."""
    if not isinstance(step, str):
        raise UsageError(f"{step!r} is not a step; give a whole number of steps.", name)
    if per_epoch is None and "ep" in step:
        raise UsageError(f"{step} counts epochs; pass steps_per_epoch, or a number of steps.", name)
    return Step.parse(step, per_epoch or 1, name)


def warn_of_left_out(model: nn.Module, mask: Mask, techniques: TechniquesHparams) -> None:
    """Warn, in the caller of `sparse`, of the weights that a mask which techniques made does not cover."""
    found = left_out(model, mask)
    given = {name: value for name, value in techniques.values().items() if name.endswith(_LAYERS)}
    if found is not None and all(value in (None, DEFAULT_LAYERS) for value in given.values()):
        words, name = str(found), next(iter(given), None)
        how = f"{name}=" if name else f"mask=prune(model, 'random', density=..., {_LAYERS}="
        if name is None:
            words = words.replace("'.", "').", 1)
        warnings.warn(words.replace(f"{_LAYERS}=", how), UnprunedWarning, stacklevel=3)
