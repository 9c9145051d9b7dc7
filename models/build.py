"""From hyperparameters to a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from foundations.errors import EnvironmentFailure, UsageError, did_you_mean
from foundations.inputs import IMAGES, Inputs
from foundations.plugins.users_code import article, mistake
from foundations.random_streams import generator, global_generator_from
from foundations.registry import Registered
from models.family import NetworkSpec
from models.hparams import ModelHparams
from models.initializers import BATCHNORM_INITS, BIAS_INITS, MASKED_INITS, WEIGHT_INITS, Fill, MaskedInit
from models.registry import FAMILIES, find_family
from models.shape_check import check_built


def build_model(hparams: ModelHparams, *, outputs: int, inputs: Inputs, seed_keys: tuple[int | str, ...]) -> nn.Module:
    """Return an initialized network on the CPU. The same arguments give the same network.

    outputs: the number that the dataset needs, such as its classes; `hparams.outputs` overrides it.
    inputs: of the dataset: `DatasetHparams.inputs`, or `Inputs((channels, height, width))`.
    seed_keys: the rest of the key of the random stream ("init", ...) of all initial values.

    Raises: UsageError if `others_frozen_exceptions` names something that is not a parameter of the network.
    """
    with global_generator_from("init", *seed_keys):
        model = construct(hparams, hparams.outputs or outputs, inputs)
        initialize(model, hparams)
    freeze(model, hparams)
    return model


def construct(hparams: ModelHparams, outputs: int, inputs: Inputs) -> nn.Module:
    """Return the network with PyTorch's initial values, on the default device (`meta` for counting).

    Raises: EnvironmentFailure if there is too little memory for it.
    """
    family, parts = find_family(hparams.model_name)
    hparams = ModelHparams.of(hparams.values())  # of the family's own class
    spec = NetworkSpec(**vars(parts), outputs=outputs, inputs=inputs, hparams=hparams)
    try:
        model = family.builder(spec)
    except RuntimeError as error:
        if "allocate memory" in str(error):
            raise EnvironmentFailure(f"There is not enough memory for the network '{hparams.model_name}'.") from error
        raise
    check_built(model, family)
    return model


@torch.no_grad()
def initialize(model: nn.Module, hparams: ModelHparams) -> None:
    """Fill the weights in place from torch's global generator, in the order of the modules."""
    convolutions, batchnorms = _initialized(hparams)
    weight_init = WEIGHT_INITS.find(hparams.model_init)
    linear_init = WEIGHT_INITS.find(hparams.linear_init or hparams.model_init)
    bias_init = BIAS_INITS.find(hparams.bias_init)
    batchnorm_init = BATCHNORM_INITS.find(hparams.batchnorm_init)
    for module in model.modules():
        if isinstance(module, convolutions) or isinstance(module, nn.Linear):  # noqa: SIM101 - mypy follows this form
            init = linear_init if isinstance(module, nn.Linear) else weight_init
            _fill(module.weight, init.fill, init)
            if module.bias is not None:
                _fill(module.bias, bias_init.fill, bias_init)
        elif isinstance(module, batchnorms) and module.affine:
            _fill(module.weight, batchnorm_init.fill_scale, batchnorm_init)
            module.bias.fill_(batchnorm_init.shift)


def _initialized(
    hparams: ModelHparams,
) -> tuple[tuple[type[nn.Conv1d | nn.Conv2d], ...], tuple[type[nn.BatchNorm1d | nn.BatchNorm2d], ...]]:
    """Return the types of convolutions and batch normalizations that hyperparameters initialize and freeze.

    The 1-dimensional ones only in families that take no images: networks of images may be older than those.
    """
    if IMAGES in FAMILIES.find(hparams.model_name).inputs:
        return (nn.Conv2d,), (nn.BatchNorm2d,)
    return (nn.Conv1d, nn.Conv2d), (nn.BatchNorm1d, nn.BatchNorm2d)


def _fill(tensor: torch.Tensor, fill: Fill, init: Registered) -> None:
    """Fill a tensor in place. Raises: PluginError where a plug-in's initializer returns another one instead."""
    returned = fill(tensor)
    if init.plugin is not None and isinstance(returned, torch.Tensor) and returned.data_ptr() != tensor.data_ptr():
        raise mistake(fill, init, "returned a new tensor; it must fill the one that it is given, in place.")


@torch.no_grad()
def initialize_masked(
    model: nn.Module, mask: Mapping[str, torch.Tensor], masked_init: str, seed_keys: tuple[int | str, ...]
) -> None:
    """Redraw the weights that a mask covers, in place, by an initializer that depends on the mask.

    mask: by name of a parameter, True where it is kept (bool, of the parameter's shape). Pruned weights are redrawn
    too, parameters of one dimension are not. seed_keys: the rest of the key of the random stream.
    """
    init = MASKED_INITS.find(masked_init)
    random = generator("masked init", *seed_keys)
    for name, kept in mask.items():
        if kept.dim() > 1:
            parameter = model.get_parameter(name)
            drawn = torch.randn(kept.shape, generator=random, dtype=torch.float64)
            parameter.copy_(drawn * _checked_std(init, kept))


def _checked_std(init: MaskedInit, kept: torch.Tensor) -> torch.Tensor:
    """Return the deviation of each weight. Raises: PluginError where a plug-in's initializer returns something else."""
    std = init.std(kept)
    if init.plugin is not None:
        if not isinstance(std, torch.Tensor):
            raise mistake(init.std, init, f"returned {article(std)}; it must return a tensor.")
        try:
            std.expand(kept.shape)
        except RuntimeError:
            shapes = f"{tuple(std.shape)} for a mask of shape {tuple(kept.shape)}"
            raise mistake(init.std, init, f"returned a tensor of shape {shapes}.") from None
    return std


def freeze(model: nn.Module, hparams: ModelHparams) -> None:
    """Turn gradients off for the parameters that the hyperparameters freeze (OpenLTH's three groups).

    Parameters that the network itself has frozen stay so.
    Raises: UsageError for an exception that is not a parameter of the network.
    """
    exceptions = set(filter(None, (hparams.others_frozen_exceptions or "").split(",")))
    names = [name for name, _ in model.named_parameters()]
    for name in sorted(exceptions - set(names)):
        raise UsageError(
            f"{hparams.model_name} has no parameter '{name}'.{did_you_mean(name, names)} "
            f"Its parameters: {', '.join(names[:3])}, ..., {names[-1]}.",
            "others_frozen_exceptions",
        )
    fixed = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not hparams.others_frozen or name in exceptions)
    output_layer(model).requires_grad_(not hparams.output_frozen)
    for module in model.modules():
        if isinstance(module, _initialized(hparams)[1]):
            module.requires_grad_(not hparams.batchnorm_frozen)
    for parameter in fixed:
        parameter.requires_grad_(False)


def output_layer(model: nn.Module) -> nn.Module:
    """Return the layer that computes the logits: the last convolutional or linear one in the order of the modules.

    In a network without Conv2d and Linear layers, the last module with weights of two axes or more.
    """
    layers: list[nn.Module] = [each for each in model.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    if not layers:
        layers = [
            each for each in model.modules() if any(weight.dim() > 1 for weight in each.parameters(recurse=False))
        ]
    return layers[-1]
