"""Skips that are added to existing residual networks, against the definition of ToST."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from models.networks.ghost_skips import FadingBatchNorm, add_ghost_skips

RESIDUAL = ["cifar_resnet_8_4", "cifar_resnet_a_8_4", "cifar_wideresnet_10_1", "cifar_modifiedresnet_18_4"]


def built(name: str, **options: Any) -> nn.Module:
    hparams = ModelHparams(model_name=name, **options)
    return build_model(hparams, outputs=10, inputs=Inputs((3, 16, 16)), seed_keys=(1,)).double()


def tost(weight: Tensor) -> Tensor:
    return nn.init.constant_(weight, 1e-4)


def images() -> Tensor:
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def normalized(x: Tensor, norm: nn.Module) -> Tensor:
    """Batch normalization of a batch by its own statistics."""
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    scale, shift = (getattr(norm, name)[:, None, None] for name in ("weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("mode", [True, False])
def test_skips_whose_batchnorm_scale_is_zero_leave_the_network_as_it_was(name: str, mode: bool) -> None:
    plain, skipping = built(name), built(name)
    assert add_ghost_skips(skipping, nn.init.normal_, scale=0.0) > 0

    for network in (plain, skipping):
        network.train(mode)

    assert torch.equal(plain(images()), skipping(images()))


@pytest.mark.parametrize("name", RESIDUAL)
def test_skips_change_what_the_network_computes_and_are_trained(name: str) -> None:
    plain, skipping = built(name), built(name)
    add_ghost_skips(skipping, nn.init.normal_)
    outputs = skipping(images())
    outputs.square().sum().backward()

    added = {n: p for n, p in skipping.named_parameters() if n not in dict(plain.named_parameters())}
    assert (outputs - plain(images())).abs().max() > 0.01
    assert all("conv_jump" in n or "bn_jump" in n for n in added)
    assert all(p.grad is not None and bool(p.grad.any()) for n, p in added.items() if "conv_jump" in n)


def test_a_block_with_skips_is_the_equation_of_tost() -> None:
    network = built("cifar_resnet_8_4")
    add_ghost_skips(network, nn.init.normal_)
    block: Any = network.get_submodule("blocks.1")  # the first of its segment: with a stride and a projection
    x = torch.randn(4, 4, 8, 8, dtype=torch.float64)

    def jump(number: int, x: Tensor, stride: int) -> Tensor:
        conv, norm = (getattr(block, f"{kind}_jump{number}") for kind in ("conv", "bn"))
        return normalized(torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], x[:, :, ::stride, ::stride]), norm)

    u = F.conv2d(x, block.conv1.weight, stride=2, padding=1)
    u = F.relu(normalized(u, block.bn1) + jump(1, x, 2))
    main = normalized(F.conv2d(u, block.conv2.weight, padding=1), block.bn2)
    expected = F.relu(main + block.shortcut(x) + jump(2, u, 1))

    assert torch.allclose(block(x), expected, rtol=0, atol=1e-12)


def test_the_skips_are_those_of_the_published_network() -> None:
    theirs, ours = built("cifar_jumpresnet_18_4", model_init="as_built"), built("cifar_modifiedresnet_18_4")
    add_ghost_skips(ours, tost)

    jumps = {name: w for name, w in theirs.state_dict().items() if "conv_jump" in name}
    assert {name: ours.state_dict()[name] for name in jumps}.keys() == jumps.keys()
    assert all(torch.allclose(ours.state_dict()[name], weight, rtol=1e-7) for name, weight in jumps.items())
    ours.load_state_dict(theirs.state_dict())
    assert torch.allclose(ours(images()), theirs(images()), rtol=0, atol=1e-10)


def test_a_copy_of_a_network_has_skips_of_its_own() -> None:
    network = built("cifar_resnet_8_4")
    add_ghost_skips(network, nn.init.normal_)
    before = network(images())

    copied = copy.deepcopy(network)
    for name, parameter in copied.named_parameters():
        if "bn_jump" in name:
            nn.init.zeros_(parameter)

    assert torch.equal(network(images()), before)
    assert torch.equal(copied(images()), built("cifar_resnet_8_4")(images()))


def test_skips_of_no_strength_add_nothing_and_their_strength_is_in_the_state() -> None:
    network, other = built("cifar_resnet_8_4"), built("cifar_resnet_8_4")
    for each in (network, other):
        add_ghost_skips(each, tost, fading=True)
    for module in network.modules():
        if isinstance(module, FadingBatchNorm):
            module.strength = 0.0

    other.load_state_dict(network.state_dict())

    for each in (network, other):
        assert torch.equal(each(images()), built("cifar_resnet_8_4")(images()))


@pytest.mark.parametrize("name", ["cifar_bottleneckresnet_56_4", "cifar_vgg_11", "cifar_jumpresnet_18_4"])
def test_bottlenecks_plain_networks_and_blocks_with_skips_get_none(name: str) -> None:
    assert add_ghost_skips(built(name), tost) == 0
