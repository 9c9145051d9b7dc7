"""Replacement of a network's activation functions (Jaiswal et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from models.activations import ACTIVATIONS, Activation, activation
from models.networks.act import Act
from models.networks.fading import Fading

_LAYERS = (nn.ReLU, nn.SiLU, nn.Softplus, nn.ELU, nn.Mish, nn.GELU)


class FadingAct(Fading, Act):
    """An activation function that fades to ReLU. Any shape, float."""

    def forward(self, x: Tensor) -> Tensor:
        """Return strength * function(x) + (1 - strength) * relu(x)."""
        if self.strength == 1:
            return self.function(x)
        if self.strength == 0:
            return F.relu(x)
        return self.strength * self.function(x) + (1 - self.strength) * F.relu(x)


def scaled_swish(beta: float) -> Activation:
    """Return the function x sigmoid(beta x)."""
    return lambda x: x * (beta * x).sigmoid()


def replace_activations(model: nn.Module, make: Callable[[], nn.Module]) -> int:
    """Replace all activations of a network and its blocks by layers that `make` returns; return their number.

    Activations are attributes that are functions of `models.activations`, and layers such as nn.ReLU. Functions that a
    network calls by name in its forward pass cannot be replaced.
    """
    replaced = 0
    for module in list(model.modules()):
        functions = _functions_in(module)
        layers = [name for name, child in module.named_children() if isinstance(child, _LAYERS)]
        for name in functions + layers:
            setattr(module, name, make())
        replaced += len(functions) + len(layers)
    return replaced


def activation_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the activations of a network and of its blocks by name, as layers; functions become layers, in place.

    Includes all that `replace_activations` replaces, and more layers of torchvision's networks.
    """
    layers = (Act, *_LAYERS, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardswish, nn.Sigmoid, nn.Hardsigmoid, nn.Tanh)
    for module in list(model.modules()):
        if not isinstance(module, Act):  # an Act's function is already a part of it
            for name in _functions_in(module):
                setattr(module, name, Act(getattr(module, name)))
    return {name: module for name, module in model.named_modules() if isinstance(module, layers)}


def _functions_in(module: nn.Module) -> list[str]:
    """Return the names of the attributes of a module that are functions of `models.activations`."""
    known = {id(activation(name)) for name in ACTIVATIONS.spellings()}
    return [name for name, value in vars(module).items() if id(value) in known]
