"""Which weights of a network can be pruned.

The prunable weights of a network are the weight tensors of its convolutions (1-, 2- and 3-dimensional, transposed ones
included) and of its linear layers: the output layer, the 1x1 convolutions of projection shortcuts and the projections
inside torch.nn.MultiheadAttention included. Biases and batchnorm are pruned and counted only where they are asked for;
any other normalization and embeddings never are. A tensor that two layers share counts once, under the alphabetically
first of its names. Every density and sparsity in open_prune is relative to the number of these weights.
"""

from __future__ import annotations

import torch
from torch import nn

from foundations.errors import UsageError
from pruning.hparams import PruningHparams

LAYER_TYPES: tuple[type[nn.Module], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
    nn.MultiheadAttention,
)
CONVOLUTIONS = LAYER_TYPES[:6]
_BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WEIGHTS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_BIASES = ("bias", "in_proj_bias")


def prunable_weights(
    model: nn.Module, layer_types: tuple[type[nn.Module], ...] = LAYER_TYPES, *, biases: bool = False
) -> dict[str, nn.Parameter]:
    """Return the prunable weights of `model` by name, in sorted order: the weights of the layers of some types.

    biases: whether the biases of these layers are among them.
    Raises: UsageError if there are none, or if a lazy layer has no shape yet.
    """
    found = {
        f"{layer}.{weight}" if layer else weight: module._parameters[weight]
        for layer, module in model.named_modules()
        if isinstance(module, layer_types)
        for weight in (*_WEIGHTS, *(_BIASES if biases else ()))
        if module._parameters.get(weight) is not None
    }
    weights: dict[str, nn.Parameter] = {}
    for name in sorted(found):
        parameter = found[name]
        if isinstance(parameter, torch.nn.parameter.UninitializedParameter):
            raise UsageError(f"'{name}' has no shape yet: run the model once before pruning it.")
        if isinstance(parameter, nn.Parameter) and not any(parameter is other for other in weights.values()):
            weights[name] = parameter
    if not weights:
        kinds = ", ".join(kind.__name__ for kind in layer_types)
        raise UsageError(f"{type(model).__name__} has no prunable weights: it has no layer of type {kinds}.")
    return weights


def weights_to_prune(model: nn.Module, hparams: PruningHparams) -> dict[str, nn.Parameter]:
    """Return the weights of `model` by name, in sorted order, that the hyperparameters make prunable.

    Raises: UsageError as `prunable_weights`.
    """
    layers = CONVOLUTIONS if hparams.prunable_layers == "convolutions" else LAYER_TYPES
    norms = _BATCHNORMS if hparams.prune_batchnorm else ()
    weights = prunable_weights(model, (*layers, *norms), biases=hparams.prune_bias)
    if hparams.prunable_layers != "all_but_classifier":
        return weights
    dense = tuple(f"{layer}." if layer else "" for layer in classifier_layers(model))
    if all(name.startswith(dense) for name in weights):
        raise UsageError("this network has no layers besides its classifier.", "prunable_layers")
    return {name: weight for name, weight in weights.items() if not name.startswith(dense)}


def classifier_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers of the classifier: the output layer and the linear ones that stand with it.

    The output layer is the last one of the prunable types, in the order of the modules. The classifier is the outermost
    module around it that holds linear layers alone and is not the whole network: `classifier`, of three layers, of a
    VGG for Tiny ImageNet or of torchvision's; `fc` of a ResNet. (Synaptic-Flow's --dense-classifier.)
    """
    kinds = {name: type(module) for name, module in model.named_modules() if isinstance(module, LAYER_TYPES)}
    output = list(kinds)[-1]
    parts = output.split(".")
    for depth in range(1, len(parts)):
        container = ".".join(parts[:depth]) + "."
        inside = [name for name in kinds if name.startswith(container)]
        if len(inside) < len(kinds) and all(issubclass(kinds[name], nn.Linear) for name in inside):
            return inside
    return [output]
