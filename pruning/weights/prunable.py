"""The prunable weights of a network: the rule of `docs/prunable.md`.

By default, these are the weight tensors of its convolutions (1-, 2- and 3-dimensional, transposed ones included) and of
its linear layers: the output layer, the 1x1 convolutions of projection shortcuts and all projections of
torch.nn.MultiheadAttention included. Other weights are pruned on request, by the type of their layer or
by name; biases and the scales of batchnorm by separate options. A tensor that two layers share counts once, under
the alphabetically first of its names. Every density and sparsity in open_prune is relative to the number of these
weights.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from foundations.errors import UsageError, did_you_mean
from models.networks.shortcut_scales import ShortcutScale
from models.prunable_default import PrunableDefault
from pruning.hparams import ALL_BUT_CLASSIFIER, CONVOLUTIONAL, DEFAULT_LAYERS, LAYER_GROUPS, NO_SCALES, PruningHparams
from pruning.weights.named_weights import (
    Weight,
    choice_of,
    layer_type,
    named_layers,
    named_weights,
    refuse_unprunable,
    tensors_of,
    unwrapped,
)
from pruning.weights.shards import refuse_sharded

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYER_TYPES: tuple[type[nn.Module], ...] = (*CONVOLUTIONS, nn.Linear, nn.MultiheadAttention)
BATCHNORMS: tuple[type[nn.Module], ...] = (_BatchNorm,)
"""The batchnorms of torch.nn: 1-, 2- and 3-dimensional, synchronized and lazy."""
_WEIGHTS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
Choice = type[nn.Module] | str
"""A type of layers; or the name of one, of a group of layers, of a layer or of a tensor, or a pattern of names."""


def is_bias(tensor: str) -> bool:
    """Return whether a tensor's name in its layer is a bias's: bias, bias_ih_l0, in_proj_bias, q_bias."""
    return tensor == "bias" or tensor.startswith("bias_") or tensor.endswith("_bias")


def prunable_weights(
    model: nn.Module, layer_types: Sequence[Choice] = (DEFAULT_LAYERS,), *, biases: bool = False
) -> dict[str, Weight]:
    """Return the prunable weights of `model` by name, in sorted order.

    layer_types: the layers: types of modules, as classes or by their names; names of layers or of tensors, or patterns
    of such names (`encoder.*`); and the names of groups: all, convolutions, all_but_classifier. A type stands for all
    tensors of its layers besides biases, and for the convolutions and linear layers inside of them.
    biases: whether to include the biases of these layers. A pattern that contains `bias` includes them as well.
    Raises: UsageError if there are none, if a name matches nothing, or if a tensor cannot be masked (it has no values
    yet, or is computed by a parametrization).
    """
    network = unwrapped(model)
    if isinstance(layer_types, str):
        layer_types = tuple(filter(None, layer_types.split(",")))
    tensors = named_weights(network)
    names: set[str] = set()
    for choice in layer_types:
        names |= _chosen(network, choice, tensors, biases)
    first: dict[int, str] = {}
    for name in sorted(names):
        weight = tensors[name]
        refuse_unprunable(name, weight)
        if isinstance(weight, nn.Parameter):
            refuse_sharded(name, weight)
        first.setdefault(_identity(weight), name)
    if not first:
        raise _without_weights(network, layer_types)
    return {name: tensors[name] for name in first.values()}


def weights_to_prune(model: nn.Module, hparams: PruningHparams) -> dict[str, Weight]:
    """Return the weights of `model` by name, in sorted order, that the hyperparameters make prunable.

    Raises: UsageError as `prunable_weights`.
    """
    try:
        layers = tuple(hparams.prunable_layers.split(","))
        return prunable_weights(model, (*layers, *_further_types(model, hparams)), biases=hparams.prune_bias)
    except UsageError as error:
        is_asked_for = hparams.prunable_layers != DEFAULT_LAYERS and not error.hparams
        raise UsageError(error.reason, "prunable_layers") if is_asked_for else error from None


def _further_types(model: nn.Module, hparams: PruningHparams) -> tuple[type[nn.Module], ...]:
    """Return the types of layers that hyperparameters add. Raises: UsageError where there are no scales to prune."""
    has_scales = any(isinstance(module, ShortcutScale) for module in unwrapped(model).modules())
    if hparams.prune_residual and not has_scales:
        raise UsageError(NO_SCALES, "prune_residual")
    norms = BATCHNORMS if hparams.prune_batchnorm else ()
    return (*norms, ShortcutScale) if hparams.prune_residual else norms


def classifier_layers(model: nn.Module) -> list[str]:
    """Return the names of the layers of the classifier: the output layer and the linear ones that stand with it.

    The output layer is the last one of the prunable types, in the order of the modules. The classifier is the outermost
    module around it that holds linear layers alone and is not the whole network: `classifier`, of three layers, of a
    VGG for Tiny ImageNet or of torchvision's; `fc` of a ResNet. (Synaptic-Flow's --dense-classifier.)
    """
    kinds = {name: type(module) for name, module in named_layers(model) if isinstance(module, LAYER_TYPES)}
    if not kinds:
        return []
    output = list(kinds)[-1]
    parts = output.split(".")
    for depth in range(1, len(parts)):
        container = ".".join(parts[:depth]) + "."
        inside = [name for name in kinds if name.startswith(container)]
        if len(inside) < len(kinds) and all(issubclass(kinds[name], nn.Linear) for name in inside):
            return inside
    return [output]


def _chosen(model: nn.Module, choice: Choice, tensors: dict[str, Weight], biases: bool) -> set[str]:
    """Return the names of the tensors that one choice of layers takes. Raises: UsageError for a name of nothing."""
    if choice == DEFAULT_LAYERS:
        return _by_default(model, biases)
    if choice == ALL_BUT_CLASSIFIER:
        return _without_classifier(model, biases)
    if not isinstance(choice, str):
        return _of_types(model, (choice,), biases)
    types = CONVOLUTIONS if choice == CONVOLUTIONAL else _types_called(model, choice)
    if {*types} - {nn.Module, object}:
        return _of_types(model, types, biases)
    named = _by_name(model, choice, tensors, biases)
    if not named:
        present = sorted({layer_type(module) for _, module in named_layers(model) if tensors_of(module)})
        groups = sorted(LAYER_GROUPS)
        layers = [name for name, _ in named_layers(model) if name]
        suggestion = did_you_mean(choice, [*groups, *present, *layers, *tensors])
        raise UsageError(
            f"'{choice}' is not a layer of {type(model).__name__}.{suggestion} Choose from {', '.join(groups)}, types "
            f"of layers ({', '.join(present)}), and names or patterns of layers and tensors."
        )
    return named


def _types_called(model: nn.Module, name: str) -> tuple[type[nn.Module], ...]:
    """Return the types of a network's layers, and their bases, that have a name."""
    kinds = {kind for _, module in named_layers(model) for kind in type(module).__mro__}
    return tuple(kind for kind in kinds if kind.__name__ == name)


def _by_default(model: nn.Module, biases: bool) -> set[str]:
    """Return the tensors of the default types of layers, or what the network has in place of them."""
    own = PrunableDefault.of(model)
    found = _of_types(model, LAYER_TYPES, biases)
    for name in own.also:
        found |= _of_types(model, _types_called(model, name), biases)
    kept = tuple(f"{layer}." for layer in own.without)
    return {name for name in found if not name.startswith(kept)}


def _of_types(model: nn.Module, types: tuple[type[nn.Module], ...], biases: bool) -> set[str]:
    """Return the tensors of layers of some types, and those of the default types inside of them."""
    found: set[str] = set()
    inside: list[str] = []
    own_types = tuple(kind for kind in types if kind not in (*LAYER_TYPES, *BATCHNORMS))
    for name, module in named_layers(model):
        prefix = f"{name}." if name else ""
        if isinstance(module, types):
            inside.append(prefix)
        elif not (isinstance(module, LAYER_TYPES) and any(prefix.startswith(outer) for outer in inside)):
            continue
        # Tensors that a user's subclass of Linear adds are chosen by that subclass only.
        takes_all = isinstance(module, own_types)
        for tensor in tensors_of(module):
            if biases if is_bias(tensor) else takes_all or tensor in _WEIGHTS:
                found.add(f"{prefix}{tensor}")
    return found


def _without_classifier(model: nn.Module, biases: bool) -> set[str]:
    dense = tuple(f"{layer}." if layer else "" for layer in classifier_layers(model))
    found = {name for name in _by_default(model, biases) if not name.startswith(dense)}
    if not found:
        raise UsageError("this network has no layers besides its classifier.", "prunable_layers")
    return found


def _by_name(model: nn.Module, pattern: str, tensors: dict[str, Weight], biases: bool) -> set[str]:
    """Return the tensors that a name or a pattern matches, by their own names or by those of the layers around them."""
    if pattern in tensors:
        return {pattern}
    layers = [name for name, _ in named_layers(model, duplicates=True)]
    outer = tuple(f"{name}." for name in layers if name and (name == pattern or fnmatch.fnmatchcase(name, pattern)))
    found = {name for name in tensors if fnmatch.fnmatchcase(name, pattern) or name.startswith(outer)}
    takes_biases = biases or "bias" in pattern
    return {name for name in found if takes_biases or not is_bias(name.rpartition(".")[2])}


def _identity(weight: Weight) -> int:
    return id(weight if isinstance(weight, nn.Parameter) else next(iter(weight.parameters.values())))


def _without_weights(model: nn.Module, layer_types: Iterable[Choice]) -> UsageError:
    kinds: list[str] = []
    for choice in layer_types:
        types = LAYER_TYPES if choice == DEFAULT_LAYERS else () if isinstance(choice, str) else (choice,)
        kinds += [kind.__name__.strip("_") for kind in types] or [str(choice)]
    reason = f"{type(model).__name__} has no prunable weights: it has no layer of type {', '.join(kinds)}."
    if any(".quantized." in type(module).__module__ for module in model.modules()):
        reason += " Its layers are quantized: prune before quantizing."
    others = sorted({choice_of(name, module) for name, module in named_layers(model) if tensors_of(module)})
    if others:
        reason += f" It has parameters in {', '.join(others)}; ask for them with prunable_layers='{others[0]}'."
    return UsageError(reason)
