"""Weights of the forward pass that are computed from the parameters: thresholds, masks that are learnt, powers.

While a network, or a part of it, computes its outputs, other tensors stand in the places of its parameters; before and
after, the parameters are there, with their names. So state dicts, checkpoints and optimizers see parameters alone,
autograd differentiates through the function, and `functional_call`, which replaces parameters in the same way, gives
the function the tensors that it is called with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from foundations.errors import UsageError

Effective = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""(parameters by name) -> the tensors in place of some of them, by name."""


class ForwardWeights:
    """Effective weights of a network.

    Every module has the hooks, and the outermost call replaces the parameters of the whole network: parts of it may be
    called by themselves, as Lightning modules and the recomputation of activations in the backward pass do.
    """

    def __init__(self, model: nn.Module, effective: Effective) -> None:
        """Take a network, and the function of its parameters. `install` begins."""
        self._model, self._effective = model, effective
        self._handles: list[RemovableHandle] = []
        self._calls: list[nn.Module] = []
        """The calls of modules that are under way, the outermost first."""
        self._replaced: list[tuple[nn.Module, str, Any]] = []
        self._flat: list[tuple[nn.Module, list[Any]]] = []
        self._is_baked = False
        self._places: dict[str, list[tuple[nn.Module, str]]] = {}
        """The modules that hold each parameter, and its keys there, by the first of its names."""
        self.first_names: dict[str, str] = {}
        """The first of the names of each tied parameter, by its other names."""

    def install(self) -> None:
        """Let every forward pass use the effective weights from now on."""
        first = {id(parameter): name for name, parameter in self._model.named_parameters()}
        every = self._model.named_parameters(remove_duplicate=False)
        self.first_names = {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}
        self._places = _places(self._model)
        for module in self._model.modules():
            self._handles += [
                module.register_forward_pre_hook(_Hook(self._enter, module), prepend=True),
                module.register_forward_hook(_Hook(self._leave, module), always_call=True),
            ]
        at_rest: Any = self._model.register_state_dict_pre_hook
        self._handles.append(at_rest(_Hook(self._at_rest, self._model)))

    def remove(self) -> None:
        """Let forward passes use the parameters again."""
        self.restore()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @property
    def is_installed(self) -> bool:
        """Whether forward passes use the effective weights."""
        return bool(self._handles)

    def restore(self) -> None:
        """Put the parameters back that an interrupted forward pass has left replaced (Ctrl+C in a notebook)."""
        self._calls.clear()
        while self._replaced:
            module, key, parameter = self._replaced.pop()
            module._parameters[key] = parameter
        while self._flat:
            layer, weights = self._flat.pop()
            layer._flat_weights = weights  # type: ignore[assignment]

    @torch.no_grad()
    def bake(self) -> dict[str, Tensor]:
        """Write the effective weights of evaluation into the parameters; return the former values of these."""
        self.restore()
        parameters, mode = dict(self._model.named_parameters()), self._model.training
        self._model.training = False
        try:
            found = self._checked(parameters)
        finally:
            self._model.training = mode
        former = {name: parameters[name].clone() for name in found}
        for name, tensor in found.items():
            parameters[name].copy_(tensor)
        return former

    @contextlib.contextmanager
    def baked(self) -> Iterator[None]:
        """Inside the block, let the parameters themselves be the effective weights."""
        if self._is_baked or not self.is_installed:
            yield
            return
        former = self.bake()
        self._is_baked = True
        try:
            yield
        finally:
            self._is_baked = False
            with torch.no_grad():
                for name, parameter in self._model.named_parameters():
                    if name in former:
                        parameter.copy_(former[name])

    def _enter(self, module: nn.Module) -> None:
        if self._is_baked:
            return
        if module is self._model and module in self._calls:
            self.restore()  # the last call of the network was interrupted
        self._calls.append(module)
        if len(self._calls) == 1:
            self._replace(is_part=module is not self._model)

    def _leave(self, module: nn.Module) -> None:
        if self._calls and self._calls[-1] is module:
            self._calls.pop()
            if not self._calls:
                self.restore()

    def _at_rest(self, _: nn.Module) -> None:
        self.restore()

    def _replace(self, *, is_part: bool) -> None:
        present = {name: module._parameters[key] for name, ((module, key), *_) in self._places.items()}
        # A part is called where activations are computed again, and the tensors that autograd keeps there are counted.
        uncounted = torch.autograd.graph.saved_tensors_hooks(_same, _same) if is_part else nullcontext()
        with uncounted:
            found = self._checked({name: tensor for name, tensor in present.items() if tensor is not None})
        for name, tensor in found.items():
            for module, key in self._places[name]:
                self._replaced.append((module, key, module._parameters[key]))
                module._parameters[key] = tensor  # type: ignore[assignment]
        for module in {id(module): module for module, _, _ in self._replaced}.values():
            if isinstance(names := getattr(module, "_flat_weights_names", None), list):
                self._flat.append((module, module._flat_weights))  # type: ignore[arg-type]
                module._flat_weights = [module._parameters.get(name) for name in names]  # type: ignore[assignment]

    def _checked(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the effective weights that are other tensors than the parameters. Raises: UsageError."""
        found = self._effective(parameters)
        for name, tensor in found.items():
            if name not in parameters:
                raise UsageError(
                    f"it gives effective weights for '{name}', which the network does not have.", "technique"
                )
            if tensor.shape != parameters[name].shape:
                shapes = f"{tuple(tensor.shape)}, and the parameter has {tuple(parameters[name].shape)}"
                raise UsageError(f"its effective weights for '{name}' have the shape {shapes}.", "technique")
        return {name: tensor for name, tensor in found.items() if tensor is not parameters[name]}


class _Hook:
    """A hook of one module. Copies of the network, and pickles, have a hook that does nothing in its place."""

    def __init__(self, act: Callable[[nn.Module], None], module: nn.Module) -> None:
        self._act, self._module = act, module

    def __call__(self, module: nn.Module, *_: Any) -> None:
        if module is not self._module:
            raise UsageError("DataParallel copies the network; use DistributedDataParallel.", "technique")
        self._act(module)

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _do_nothing


def _do_nothing(*_: Any) -> None:
    pass


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _places(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Return the modules that hold each parameter, and its keys there, by the first of its names."""
    found: dict[int, tuple[str, list[tuple[nn.Module, str]]]] = {}
    for prefix, module in model.named_modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                name = f"{prefix}.{key}" if prefix else key
                found.setdefault(id(parameter), (name, []))[1].append((module, key))
    return dict(found.values())
