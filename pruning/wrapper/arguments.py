"""The arguments of PruningWrapper: two names of each, and the network and the mask that follow from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from foundations.errors import UsageError, invalid
from pruning.compute_mask import within_masks_of_torch
from pruning.hparams import DEFAULT_LAYERS
from pruning.masks.mask import Mask
from pruning.weights.named_weights import named_weights
from pruning.weights.prunable import prunable_weights

_PREFIXES = ("module.", "_orig_mod.")


def with_inner_names(mask: Mapping[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors by their names in `network`, without the prefixes of DataParallel and torch.compile."""
    names = named_weights(network)
    found = {}
    for name, tensor in mask.items():
        inner = name
        while inner not in names and inner.startswith(_PREFIXES):
            inner = inner.partition(".")[2]
        found[inner if inner in names else name] = tensor
    return found


def one_of(given: Mapping[str, Any], default: object) -> Any:
    """Return the value of an argument that has two names. Raises: UsageError if both are given, and differ."""
    values = [value for value in given.values() if value is not default and value != default]
    if len(values) > 1 and (values[0] is not values[1] and values[0] != values[1]):
        raise UsageError("they are two names of one argument; give one of them.", *given)
    return values[0] if values else default


def choice(name: str, value: str | None, switch: str, is_on: bool, default: str) -> str:
    """Return `default`, or 'random' if the argument `name` or its `switch` chooses it.

    Raises: UsageError if the value is neither, or contradicts the switch.
    """
    if value not in (None, default, "random"):
        raise invalid(value, name, (default, "random"))
    if value == default and is_on:
        raise UsageError(f"'{default}' and {switch}=True contradict each other; give one of them.", name, switch)
    return "random" if is_on else value or default


def check_rate(rate: float) -> None:
    """Raise a UsageError for a rate that is not a number within 0 and 1."""
    try:
        is_valid = not isinstance(rate, bool) and bool(0 <= rate <= 1)
    except (TypeError, ValueError, RuntimeError):  # a text, None, or an array of several
        is_valid = False
    if not is_valid:
        raise UsageError(f"{rate!r} is not a valid value; it must be at least 0 and at most 1.", "prune_rate")


def check_switches(**switches: object) -> None:
    """Raise a UsageError for a switch that is neither True nor False."""
    for name, value in switches.items():
        if not isinstance(value, bool | np.bool_):
            raise UsageError(f"{value!r} is not a valid value; choose from True, False.", name)


def folder_of(folder: object) -> Path | None:
    """Return the folder of the log; None where nothing is written. Raises: UsageError for anything but a path."""
    if folder is None:
        return None
    if not isinstance(folder, str | PathLike) or isinstance(fspath := os.fspath(folder), bytes) or not fspath:
        raise UsageError(f"{folder!r} is not a valid value; it takes a path, or None to write nothing.", "save_dir")
    return Path(folder)


def check_seed(seed: object) -> None:
    """Raise a UsageError for a seed that is not a whole number."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise UsageError(f"{seed!r} is not a valid value; it takes a whole number.", "seed")


def checked_layer_types(types: object) -> tuple[type[nn.Module], ...] | None:
    """Return the types of layers as a tuple. Raises: UsageError where they are not classes of modules."""
    found = tuple(types) if isinstance(types, list | tuple | set | frozenset) else (types,)
    if types is None:
        return None
    if not found or not all(isinstance(each, type) and issubclass(each, nn.Module) for each in found):
        raise UsageError(f"{types!r} is not a valid value; it takes classes such as (nn.Conv2d,).", "layer_types")
    return found


def available_device(device: str | torch.device) -> torch.device:
    """Return the device. Raises: UsageError where this machine does not have it."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = f"'{device}' is not a device of this machine; choose another one, such as cpu."
        raise UsageError(reason, "device") from error
    return found


def mask_of_ones(
    network: nn.Module,
    layer_types: tuple[type[nn.Module], ...] | None,
    filter_function: Callable[[str], bool] | None,
) -> Mask:
    """Return the dense mask: it keeps the weights of the layer types, or all parameters, that pass the filter.

    Weights that torch.nn.utils.prune has pruned stay pruned. Raises: UsageError if no weights pass, or if a lazy
    parameter has no shape yet.
    """
    if filter_function is None:
        return within_masks_of_torch(network, Mask.ones(network, layer_types or (DEFAULT_LAYERS,)))
    if not callable(filter_function):
        raise UsageError("it must be a function of a parameter's name.", "filter_function")
    every = prunable_weights(network, layer_types or ("*",), biases=layer_types is None)
    chosen = {name: weight for name, weight in every.items() if filter_function(name)}
    if not chosen:
        raise UsageError(
            f"it excludes all {len(every)} parameters, such as '{next(iter(every), '')}'.", "filter_function"
        )
    ones = Mask({name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in chosen.items()}, network)
    return within_masks_of_torch(network, ones)
