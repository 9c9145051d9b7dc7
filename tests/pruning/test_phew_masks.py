"""PHEW's own function, and which biases a mask of weights leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.bias_masks import bias_masks, units_with_weights
from pruning.masks.mask import Mask
from pruning.phew_masks import phew_masks
from pruning.prune import prune
from tests.pruning.nets import LeNet, ResNet


def vgg() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.BatchNorm2d(24),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 10),
        )


def test_the_two_lists_are_in_the_order_of_the_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    network = vgg()

    weight_masks, bias_masks = phew_masks(network, 99.0, True, False)

    weights = [parameter for parameter in network.parameters() if parameter.dim() != 1]
    assert [mask.shape for mask in weight_masks] == [weight.shape for weight in weights]
    assert [mask.shape for mask in bias_masks] == [weight.shape[:1] for weight in weights]
    assert all(mask.dtype == torch.float32 for mask in (*weight_masks, *bias_masks))
    total = sum(weight.numel() for weight in weights)
    kept = sum(int(mask.sum()) for mask in weight_masks)
    assert kept == round(0.01 * total)
    assert f"{kept} of {total}" in capsys.readouterr().out
    for weight_mask, bias_mask in zip(weight_masks, bias_masks, strict=True):
        assert torch.equal(bias_mask, weight_mask.flatten(1).amax(1))
    assert not bias_masks[0].all()


def test_they_are_those_of_prune(capsys: pytest.CaptureFixture[str]) -> None:
    network = ResNet(8, 8)
    mask = prune(network, "phew", density=0.1, input_shape=(3, 32, 32), seed=3, phew_kernels=True)

    weight_masks, _ = phew_masks(network, 90, verbose=False, kernel_conserved=True, seed=3)

    names = [name for name, parameter in network.named_parameters() if parameter.dim() != 1]
    assert Mask(dict(zip(names, weight_masks, strict=True))) == mask
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "build",
    [
        lambda: LeNet([20, 10], 10, 64),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Flatten(), nn.Linear(4 * 8 * 8, 5)),
    ],
    ids=["features", "images of 64 x 64"],
)
def test_the_shape_of_inputs_is_found(build: Callable[[], nn.Module]) -> None:
    weight_masks, bias_masks = phew_masks(build(), 99, verbose=False)
    assert len(weight_masks) == len(bias_masks)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="^prune_percentage: 101 is not a percentage"):
        phew_masks(vgg(), 101)
    with pytest.raises(UsageError, match="^input_shape: the network takes none of the usual shapes"):
        phew_masks(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(7, 2)), 50)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_a_unit_with_weights_is_one_whose_output_depends_on_the_input(kind: type[nn.Conv1d], groups: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = kind(6, 8, 3, groups=groups).double()
    kept = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(2)) < 0.03
    with torch.no_grad():
        layer.weight.mul_(kept)
        moved = (layer(torch.ones(1, 6, 5).double()) - layer(torch.zeros(1, 6, 5).double())).abs().amax((0, 2)) > 0

    assert torch.equal(units_with_weights(layer, kept), moved)
    assert 0 < int(moved.sum()) < 8


def test_only_biases_of_covered_layers_have_a_mask() -> None:
    network = vgg()
    ones = Mask.ones(network)
    assert list(bias_masks(network, ones)) == ["0.bias", "2.bias", "6.bias"]
    assert list(bias_masks(network, Mask({"6.weight": torch.zeros(10, 24)}))) == ["6.bias"]
    assert len(bias_masks(ResNet(8, 8), Mask.ones(ResNet(8, 8)))) == 1
