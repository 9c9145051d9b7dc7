"""A check that a network can run on the examples of a dataset, made with two blank ones before a job starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from foundations.errors import OpenPruneError, PluginError, UsageError
from foundations.inputs import IMAGES, Inputs
from foundations.plugins.users_code import article, mistake, place_of, place_of_entry, place_of_error
from models.family import Family
from models.hparams import ModelHparams
from models.library_errors import is_of_memory, sentence_of
from models.registry import FAMILIES

_CHECKED: set[tuple[ModelHparams, int, Inputs]] = set()


def check_network(model: nn.Module, hparams: ModelHparams, outputs: int, inputs: Inputs, dataset_name: str) -> None:
    """Check, once a process, that a network on the CPU maps examples of a dataset to as many outputs as it needs.

    The network and the random generators stay as they are.
    Raises: UsageError if it cannot run on such examples; PluginError, with the line, if a plug-in declares it.
    """
    outputs = hparams.outputs or outputs
    key = hparams, outputs, inputs
    if key in _CHECKED:
        return
    family = FAMILIES.find(hparams.model_name)
    examples = f"the {inputs.kind} of {dataset_name}, {inputs}"
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = model.eval()(inputs.blank(2))
    except (OpenPruneError, MemoryError):
        raise
    except Exception as error:
        if is_of_memory(error):
            raise
        place, what = place_of_error(error), f"{hparams.model_name} cannot run on {examples}: {sentence_of(error)}."
        if family.plugin is not None:
            raise PluginError(f"{place or place_of(family.builder) or place_of_entry(family)}: {what}") from error
        raise UsageError(what, "model_name", *_own_hparams(hparams), "dataset_name") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    each = (2, *inputs.shape, outputs) if inputs.per_token else (2, outputs)
    what = "images" if inputs.kind == IMAGES else "examples"
    _check_logits(logits, each, family, f"for two {what}", f"on {inputs.kind} of {dataset_name}, {inputs}")
    _CHECKED.add(key)


def _own_hparams(hparams: ModelHparams) -> list[str]:
    """Return the names of hyperparameters that a family adds, and that are given: they may be the cause, too."""
    known = ModelHparams.names()
    return [name for name, value in hparams.values().items() if name not in known and value is not None]


def check_built(model: Any, family: Family) -> None:
    """Check that the builder of a plug-in's family returned a network that has weights. Raises: PluginError."""
    if family.plugin is None:
        return
    if not isinstance(model, nn.Module):
        raise mistake(family.builder, family, f"returned {article(model)}; it must return an nn.Module.")
    lazy = next((name for name, each in model.named_parameters() if isinstance(each, UninitializedParameter)), None)
    if lazy is not None:
        raise mistake(family.builder, family, f"returned a network without a size for {lazy}; lazy layers have none.")
    if not any(each.dim() > 1 for each in model.parameters()):
        raise mistake(family.builder, family, "returned a network without weights, such as those of nn.Linear layers.")


def _check_logits(logits: Any, shape: tuple[int, ...], family: Family, count: str, on: str) -> None:
    if family.plugin is None:
        return
    if not isinstance(logits, Tensor):
        raise mistake(family.builder, family, f"built a network that returns {article(logits)}, not a tensor, {on}.")
    if tuple(logits.shape) != shape or not logits.is_floating_point():
        found = f"{str(logits.dtype).removeprefix('torch.')} {tuple(logits.shape)}"
        reason = f"built a network that returns {found}, not float {shape}, {count}\n{on}."
        raise mistake(family.builder, family, reason)
