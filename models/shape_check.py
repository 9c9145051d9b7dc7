"""A check that a network can run on the images of a dataset, made with two black images before a job starts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foundations.errors import OpenPruneError, PluginError, UsageError
from foundations.plugins.users_code import article, mistake, place_of, place_of_entry, place_of_error, words_of
from models.family import Family
from models.hparams import ModelHparams
from models.registry import FAMILIES

_CHECKED: set[tuple[ModelHparams, int, tuple[int, int, int]]] = set()


def check_network(
    model: nn.Module, hparams: ModelHparams, outputs: int, input_shape: tuple[int, int, int], dataset_name: str
) -> None:
    """Check, once a process, that a network on the CPU maps images of a dataset to as many logits as it has classes.

    The network and the random generators stay as they are. input_shape: channels, height, width.
    Raises: UsageError if it cannot run on such images; PluginError, with the line, if a plug-in declares it.
    """
    outputs = hparams.outputs or outputs
    key = hparams, outputs, input_shape
    if key in _CHECKED:
        return
    family = FAMILIES.find(hparams.model_name)
    images = " x ".join(map(str, input_shape))
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            logits = model.eval()(torch.zeros(2, *input_shape))
    except (OpenPruneError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        place, reason = place_of_error(error), words_of(error).split("\n")[0].partition(": ")[2] or words_of(error)
        what = f"{hparams.model_name} cannot run on the images of {dataset_name}, {images}: {reason}"
        if family.plugin is not None:
            raise PluginError(f"{place or place_of(family.builder) or place_of_entry(family)}: {what}") from error
        raise UsageError(what, "model_name", "dataset_name") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    _check_logits(logits, outputs, family, f"on images of {dataset_name}, {images}")
    _CHECKED.add(key)


def check_built(model: Any, family: Family) -> None:
    """Check that the builder of a plug-in's family returned a network that has weights. Raises: PluginError."""
    if family.plugin is None:
        return
    if not isinstance(model, nn.Module):
        raise mistake(family.builder, family, f"returned {article(model)}; it must return an nn.Module.")
    if not any(isinstance(module, nn.Conv2d | nn.Linear) for module in model.modules()):
        raise mistake(family.builder, family, "returned a network without nn.Conv2d and nn.Linear layers.")


def _check_logits(logits: Any, outputs: int, family: Family, on: str) -> None:
    if family.plugin is None:
        return
    if not isinstance(logits, Tensor):
        raise mistake(family.builder, family, f"built a network that returns {article(logits)}, not a tensor, {on}.")
    if tuple(logits.shape) != (2, outputs) or not logits.is_floating_point():
        found = f"{str(logits.dtype).removeprefix('torch.')} {tuple(logits.shape)}"
        reason = f"built a network that returns {found}, not float (2, {outputs}), for two images\n{on}."
        raise mistake(family.builder, family, reason)
