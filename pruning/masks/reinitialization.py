"""Reinitialization of all parameters of any network."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

from foundations.errors import UsageError

_RESETS = ("reset_parameters", "_reset_parameters", "reset")
_SHOWN = 4


def reinitialize_(network: nn.Module, buffers: Mapping[str, torch.Tensor] | None = None) -> None:
    """Draw all parameters of `network` again, in place, from torch's global generator of the CPU.

    Each module is reset by its own method, after the modules in it, as when it is constructed: `reset_parameters`, or
    `_reset_parameters` (attention, `nn.Transformer`), or, if it has parameters of its own, `reset`. Weight norm and
    other parametrizations are computed from the weight that the layer draws. The network stays on its device; a tensor
    that several modules share has the values that the last of them draws.

    buffers: values for buffers by name, set before the modules are reset; the other buffers keep theirs, unless a
    module resets them, as batchnorm does.

    Raises: UsageError that names the parameters that no module resets, with the network as it was.
    """
    shapes = {id(module): _parametrized_shapes(module) for module in network.modules()}
    with _on_the_cpu(network, buffers or {}) as unset:
        for name, module in _children_first(network, "", set()):
            _reset(name, module, shapes[id(module)])
        left = unset()
        if left:
            names = ", ".join(left[:_SHOWN]) + (", ..." if len(left) > _SHOWN else "")
            raise UsageError(
                f"{len(left)} {'parameter' if len(left) == 1 else 'parameters'} cannot be reinitialized: {names}. "
                "Define `reset_parameters` in the class of their module."
            )


@contextlib.contextmanager
def _on_the_cpu(network: nn.Module, buffers: Mapping[str, torch.Tensor]) -> Iterator[Callable[[], list[str]]]:
    """Let parameters be NaN on the CPU inside the block; copy the new values to their place if no error is raised.

    Yields a function that returns the names of the parameters that still have NaN in them.
    """
    owners = [(module, dict(module._parameters), dict(module._buffers)) for module in network.modules()]
    parameters = {name: p for name, p in network.named_parameters() if not (is_lazy(p) or p.is_meta)}
    held = {name: b for name, b in network.named_buffers() if not (is_lazy(b) or b.is_meta)}
    places = {name: tensor.data for name, tensor in {**parameters, **held}.items()}
    for parameter in parameters.values():
        parameter.data = _unset(parameter)
    for name, buffer in held.items():
        buffer.data = buffers.get(name, buffer).detach().to("cpu", buffer.dtype, copy=True)
    drawn: dict[str, torch.Tensor] = {}
    try:
        with torch.no_grad():
            yield lambda: _unset_names(network, places, parameters)
            drawn = {name: _tensor(network, name).data for name in places}
    finally:
        # A method may have put new tensors into a module: optimizers hold the old ones.
        for module, own_parameters, own_buffers in owners:
            module._parameters.update(own_parameters)
            module._buffers.update(own_buffers)
        for name, tensor in {**parameters, **held}.items():
            tensor.data = places[name]
    with torch.no_grad():
        for name, values in drawn.items():
            places[name].copy_(values)


def _unset(parameter: nn.Parameter) -> torch.Tensor:
    has_nan = parameter.is_floating_point() or parameter.is_complex()
    shape, dtype = parameter.shape, parameter.dtype
    return torch.full(shape, torch.nan, dtype=dtype) if has_nan else parameter.detach().to("cpu", copy=True)


def _unset_names(
    network: nn.Module, places: Mapping[str, torch.Tensor], parameters: Mapping[str, nn.Parameter]
) -> list[str]:
    """Return the names of the parameters that have not been set, or that have another shape now."""
    names = []
    for name in parameters:
        tensor = _tensor(network, name)
        owner = network.get_submodule(name.rpartition(".")[0])
        is_number = not (tensor.is_floating_point() or tensor.is_complex())
        if tensor.shape != places[name].shape or bool(tensor.isnan().any()) or (is_number and not _method(owner)):
            names.append(name)
    return names


def _tensor(network: nn.Module, name: str) -> torch.Tensor:
    path, _, attribute = name.rpartition(".")
    tensor = getattr(network.get_submodule(path), attribute)
    assert isinstance(tensor, torch.Tensor)
    return tensor


def _children_first(module: nn.Module, name: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    for child_name, child in module.named_children():
        yield from _children_first(child, f"{name}.{child_name}" if name else child_name, seen)
    yield name, module


def _method(module: nn.Module) -> str | None:
    """Return the name of the method that resets a module."""
    for name in _RESETS:
        # Looked up on the class: a compiled network hands on every attribute of the one inside.
        found = vars(module).get(name) or getattr(type(module), name, None)
        if callable(found) and (name != "reset" or any(own is not None for own in module._parameters.values())):
            return name
    return None


def _reset(name: str, module: nn.Module, parametrized: Mapping[str, torch.Size]) -> None:
    method = _method(module)
    if method is None:
        return
    try:
        if parametrized:
            _reset_parametrized(module, method, parametrized)
        else:
            with _plain_weights(module):
                getattr(module, method)()
    except Exception as error:
        path = ".".join(filter(None, (name, method)))
        raise UsageError(f"{type(module).__name__} cannot be reinitialized: {path}() fails: {error}") from error


@torch.no_grad()
def _parametrized_shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of the weights that parametrizations of the module compute."""
    if not parametrize.is_parametrized(module):
        return {}
    # Of copies: computing the weight changes what spectral norm holds.
    parametrizations: Any = module.parametrizations
    return {name: copy.deepcopy(each)().shape for name, each in parametrizations.items()}


def _reset_parametrized(module: nn.Module, method: str, shapes: Mapping[str, torch.Size]) -> None:
    """Draw plain weights by the layer's own class, and assign them: each parametrization inverts them."""
    parametrizations: Any = module.parametrizations
    drawn = {}
    for name, shape in shapes.items():
        original = next(parametrizations[name].parameters(recurse=False))
        drawn[name] = nn.Parameter(torch.full(shape, torch.nan, dtype=original.dtype))
    plain = _plain_copy(module, drawn)
    getattr(plain, method)()
    for name in drawn:
        if all(hasattr(each, "right_inverse") for each in parametrizations[name]):
            setattr(module, name, getattr(plain, name).detach())


def _plain_copy(module: nn.Module, weights: Mapping[str, nn.Parameter]) -> nn.Module:
    """Return a module of the class that was parametrized, with these weights and everything else shared."""
    kind: Any = type(module).__bases__[0]
    plain: nn.Module = kind.__new__(kind)
    plain.__dict__ = dict(vars(module))
    plain._modules = {name: child for name, child in module._modules.items() if name != "parametrizations"}
    plain._parameters = {**module._parameters, **weights}
    return plain


@contextlib.contextmanager
def _plain_weights(module: nn.Module) -> Iterator[None]:
    """Make weights that hooks compute plain parameters inside the block; then compute the hooks' parameters from them.

    These are weights under the older `weight_norm` and `spectral_norm` of torch.nn.utils, and its `prune`.
    """
    norms = {hook.name: hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WeightNorm)}
    sources = {name: f"{name}_v" for name in norms}
    sources |= {name.removesuffix("_orig"): name for name in module._parameters if name.endswith("_orig")}
    before = {name: tensor for name in sources if isinstance(tensor := vars(module).get(name), torch.Tensor)}
    plain = {name: torch.full_like(getattr(module, sources[name]), torch.nan) for name in before}
    vars(module).update(plain)
    try:
        yield
        for name, weight in plain.items():
            getattr(module, sources[name]).copy_(weight)
            if name in norms:
                getattr(module, f"{name}_g").copy_(torch.norm_except_dim(weight, 2, norms[name].dim))
    finally:
        vars(module).update(before)
