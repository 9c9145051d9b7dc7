"""Activations that are replaced in existing networks, against their definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from foundations.inputs import Inputs
from models.activations import ACTIVATIONS, activation
from models.build import build_model
from models.hparams import ModelHparams
from models.networks.act import Act
from models.networks.soft_activation import FadingAct, replace_activations, scaled_swish


def built(name: str, **options: Any) -> nn.Module:
    hparams = ModelHparams(model_name=name, **options)
    return build_model(hparams, outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(1,)).double().eval()


@pytest.mark.parametrize(
    ("name", "function"),
    [
        *(("cifar_resnet_8_4", function) for function in ACTIVATIONS.spellings()),
        *((name, "gelu") for name in ("cifar_wideresnet_10_1", "cifar_vgg_11", "tost_lenet5_cifar")),
    ],
)
def test_a_network_with_replaced_activations_is_the_one_that_is_built_with_them(name: str, function: str) -> None:
    replaced, x = built(name), torch.randn(2, 3, 32, 32, dtype=torch.float64)

    count = replace_activations(replaced, lambda: Act(activation(function)))

    assert count > 0
    assert torch.equal(replaced(x), built(name, activation=function)(x))
    assert replaced.state_dict().keys() == built(name).state_dict().keys()


def test_layers_of_torch_are_replaced_too() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.GELU()), nn.Tanh())

    assert replace_activations(network, lambda: Act(activation("mish"))) == 2
    assert isinstance(network[1], Act)
    assert isinstance(network[3], nn.Tanh)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0, 30.0])
def test_beta_scales_the_argument_of_the_sigmoid(beta: float) -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)

    assert torch.allclose(scaled_swish(beta)(x), x / (1 + torch.exp(-beta * x)), rtol=1e-14, atol=1e-15)


def test_a_large_beta_is_nearly_relu_and_betas_of_one_and_two_are_swish_and_pswish() -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)

    assert torch.allclose(scaled_swish(1000)(x), x.relu(), atol=1e-3)
    assert torch.allclose(scaled_swish(1)(x), activation("swish")(x))
    assert torch.equal(scaled_swish(2)(x), activation("pswish")(x))


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_an_activation_that_fades_is_a_mixture_with_relu_and_its_strength_is_in_the_state(strength: float) -> None:
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)
    fading, loaded = FadingAct(activation("gelu")), FadingAct(activation("gelu"))
    fading.strength = strength

    loaded.load_state_dict(fading.state_dict())

    phi = 0.5 * (1 + torch.erf(x / 2**0.5))
    for act in (fading, loaded):
        assert torch.allclose(act(x), strength * x * phi + (1 - strength) * x.clamp(min=0), rtol=1e-13)
