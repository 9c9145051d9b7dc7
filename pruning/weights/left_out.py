"""Reports of weights that a mask does not cover, although users may expect it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy

from models.held import held_modules
from pruning.hparams import DEFAULT_LAYERS
from pruning.weights.computed_weights import Computed
from pruning.weights.named_weights import choice_of, named_layers, tensors_of, unwrapped
from pruning.weights.normalization import is_normalization
from pruning.weights.prunable import is_bias

_MOST_NAMED = 4


class UnprunedWarning(UserWarning):
    """Some weights of the network, besides biases and normalization, are neither pruned nor counted."""


@dataclass(frozen=True)
class LeftOut:
    """The weights that masks do not cover, besides biases and normalization."""

    layers: dict[str, int]
    """The number of such weights in each layer, by name; '' is the network itself."""
    types: list[str]
    """The types of these layers, or the name of a layer without a type of its own."""
    total: int
    """The number of all weights of the network besides biases and normalization."""
    unregistered: int = 0
    """The number of weights in layers that the network does not register, such as those in plain lists."""

    @property
    def count(self) -> int:
        """The number of these weights."""
        return sum(self.layers.values())

    def __str__(self) -> str:
        """Return sentences that name these weights and how to include them."""
        sentences = []
        if self.layers:
            names = [name or "(the network itself)" for name in self.layers]
            more = f" and {len(names) - _MOST_NAMED} more layers" if len(names) > _MOST_NAMED else ""
            choice = ",".join((DEFAULT_LAYERS, *self.types))
            sentences.append(
                f"{', '.join(names[:_MOST_NAMED])}{more}: {self.count:,} of {self.total:,} weights are not prunable by "
                f"default; ask for them with prunable_layers='{choice}'."
            )
        if self.unregistered:
            sentences.append(
                f"{self.unregistered:,} weights are in layers that the network keeps in plain lists or dictionaries, "
                "where torch does not find them; keep them in nn.ModuleList or nn.ModuleDict to train and prune them."
            )
        return " ".join(sentences)


def left_out(model: nn.Module, names: Collection[str]) -> LeftOut | None:
    """Return the weights that a mask of some names does not cover, besides biases and normalization; None for none."""
    network = unwrapped(model)
    covered: set[int] = set()
    counted: dict[int, tuple[str, nn.Module, int]] = {}
    for layer, module in named_layers(network, duplicates=True):
        for tensor, weight in tensors_of(module).items():
            shown = next(iter(weight.parameters.values()), None) if isinstance(weight, Computed) else weight
            name = f"{layer}.{tensor}" if layer else tensor
            if name in names:
                covered.add(id(shown))
            elif is_bias(tensor) or is_normalization(module) or isinstance(weight, nn.UninitializedParameter):
                continue
            counted.setdefault(id(shown), (layer, module, weight.shape.numel()))
    layers, types = Counter[str](), Counter[str]()
    for key, (layer, module, number) in counted.items():
        if key not in covered:
            layers[layer] += number
            types[choice_of(layer, module)] += 1
    unregistered = _unregistered(network)
    if not layers and not unregistered:
        return None
    return LeftOut(layers, list(types), sum(number for _, _, number in counted.values()), unregistered)


def _unregistered(network: nn.Module) -> int:
    """Return the number of weights in modules that a network holds without registering them."""
    registered, known = {*network.modules()}, {*network.parameters()}
    hidden: set[nn.Parameter] = set()
    for module in held_modules(network):
        if module not in registered:
            hidden |= {*module.parameters()} - known
    return sum(parameter.numel() for parameter in hidden if not is_lazy(parameter) and parameter.dim() > 1)


def warn_of_left_out(model: nn.Module, names: Collection[str], stacklevel: int) -> None:
    """Warn of the weights that a mask of some names does not cover."""
    found = left_out(model, names)
    if found is not None:
        warnings.warn(str(found), UnprunedWarning, stacklevel=stacklevel + 1)


def warn_of_dense(structure: str, reasons: Mapping[str, str], remedy: str = "") -> None:
    """Warn of the tensors that a structure leaves dense. reasons: by name, each after 'because it is'.

    remedy: the option that changes it, if there is one.
    """
    if not reasons:
        return
    shown = [f"{name} ({reason})" for name, reason in list(reasons.items())[:_MOST_NAMED]]
    more = f" and {len(reasons) - _MOST_NAMED} more" if len(reasons) > _MOST_NAMED else ""
    how = f"; {remedy} changes that." if remedy else "."
    words = f"{', '.join(shown)}{more}: without {structure}{how}"
    warnings.warn(words, UnprunedWarning, stacklevel=3)
