"""The layers and tensors of a network by name, whatever the network is wrapped in.

`torch.compile`, `DataParallel` and `DistributedDataParallel` wrap a network, or a part of it, and put a prefix before
its names. Masks use the names of the network inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.swa_utils import AveragedModel

from foundations.errors import UsageError
from models.copying import copied
from pruning.weights.computed_weights import PARAMETRIZATIONS, Computed, computed_tensors, make_plain_

_COMPILED = "_orig_mod"
"""The child in which torch.compile keeps the network."""

Weight = nn.Parameter | Computed
"""A tensor of a layer: a parameter, or computed from some."""


def unwrapped(model: Any) -> nn.Module:
    """Return the network inside of `torch.compile`, `DataParallel`, `DistributedDataParallel` and `AveragedModel`.

    Raises: UsageError for TorchScript, and for anything other than a module.
    """
    if not isinstance(model, nn.Module):
        shown = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise UsageError(f"it must be a torch.nn.Module, and not {shown}.", "model")
    network: nn.Module = model
    while (inner := _inner(network)) is not None:
        network = inner
    return network


def _inner(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.DataParallel | DistributedDataParallel | AveragedModel):
        return module._modules["module"]
    if type(module).__name__ == "FullyShardedDataParallel":
        raise UsageError("FullyShardedDataParallel flattens weights, which masks cannot name; use fully_shard (FSDP2).")
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError("a TorchScript module cannot be pruned; prune the module that it was made from.")
    return module._modules.get(_COMPILED)


def named_layers(model: nn.Module, *, duplicates: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a network with their names, each before those inside of it.

    duplicates: whether a module that stands in two places is yielded for each.
    """
    yield from _layers_below(model, "", None if duplicates else set())


def _layers_below(module: nn.Module, name: str, seen: set[int] | None) -> Iterator[tuple[str, nn.Module]]:
    module = unwrapped(module)
    if seen is not None:
        if id(module) in seen:
            return
        seen.add(id(module))
    yield name, module
    parametrized = PARAMETRIZATIONS in module._modules
    for child, inner in module._modules.items():
        if inner is not None and not (parametrized and child == PARAMETRIZATIONS):
            yield from _layers_below(inner, f"{name}.{child}" if name else child, seen)


def tensors_of(layer: nn.Module) -> dict[str, Weight]:
    """Return the tensors of a layer itself that are parameters or computed from some, by their names in the layer."""
    parameters: Mapping[str, nn.Parameter | None] = layer._parameters
    if not layer._forward_pre_hooks and PARAMETRIZATIONS not in layer._modules:
        return {name: value for name, value in parameters.items() if value is not None}
    computed = {item.tensor: item for item in computed_tensors(layer)}
    hidden = {name for item in computed.values() for name in item.parameters}
    plain = {name: value for name, value in parameters.items() if value is not None and name not in hidden}
    return {**computed, **plain}


def choice_of(name: str, layer: nn.Module) -> str:
    """Return the choice that selects a layer: its type, or its name if its type does not select layers."""
    return (f"{name}.*" if name else "*") if type(layer) is nn.Module else layer_type(layer)


def layer_type(layer: nn.Module) -> str:
    """Return the name of a layer's class: LSTM for a parametrized LSTM, too."""
    kind = type(layer)
    return (kind.__mro__[1] if is_parametrized(layer) else kind).__name__


def named_weights(model: nn.Module) -> dict[str, Weight]:
    """Return the tensors of all layers of a network by name; a shared tensor appears under each of its names."""
    return {
        f"{layer}.{name}" if layer else name: value
        for layer, module in named_layers(model, duplicates=True)
        for name, value in tensors_of(module).items()
    }


def kept_by_torch(model: nn.Module) -> dict[str, Tensor]:
    """Return the masks that torch.nn.utils.prune holds for a network: bool, on the CPU, by the name of the weight."""
    return {
        name: kept.cpu()
        for name, weight in named_weights(model).items()
        if isinstance(weight, Computed) and (kept := weight.kept()) is not None
    }


def refuse_unprunable(name: str, weight: Weight) -> None:
    """Check that a tensor holds values that can be zeroed. Raises: UsageError that says what to do."""
    layer = name.rpartition(".")[0]
    if isinstance(weight, Computed):
        if weight.removal is not None:
            call = weight.removal.replace("LAYER", f"model.get_submodule('{layer}')" if layer else "model")
            raise UsageError(
                f"'{name}' is computed by {weight.kind}, so it cannot be masked. "
                f"Remove that before pruning: {call}; or choose other layers with prunable_layers."
            )
        return
    if isinstance(weight, torch.nn.parameter.UninitializedParameter):
        raise UsageError(f"'{name}' has no shape yet: run the model once before pruning it.")
    if weight.dtype.itemsize == 1 or not (weight.is_floating_point() or weight.is_complex()):
        kind = str(weight.dtype).removeprefix("torch.")
        raise UsageError(f"'{name}' holds numbers of type {kind}; prune before quantizing, or choose other layers.")
    if weight.layout != torch.strided:
        raise UsageError(f"'{name}' is not one dense tensor; make sparse weights dense before pruning.")


def plain_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network without wrappers, in which every computed tensor is a parameter.

    Raises: UsageError for a TorchScript module, which has no layers to look at.
    """
    network = copied(unwrapped(model))
    for module in list(network.modules()):
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = unwrapped(child)
    make_plain_(network)
    return network


def plain(model: nn.Module) -> nn.Module:
    """Return the network itself if its names and weights equal its plain copy's, else that copy; read-only."""
    differs = any(_inner(module) is not None or any(computed_tensors(module)) for module in model.modules())
    return plain_copy(model) if differs else model
