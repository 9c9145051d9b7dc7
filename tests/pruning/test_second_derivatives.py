from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning.kernels.second_derivatives import fast_second_derivatives

NETWORKS = {
    "plain": (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1, bias=False)),
    "strided": (nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.Softplus(), nn.Conv2d(6, 4, 1)),
    "grouped": (nn.Conv2d(3, 6, 3, dilation=2, groups=3), nn.BatchNorm2d(6, affine=False), nn.Tanh()),
    "reflecting": (nn.Conv2d(3, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)),
    "same": (nn.Conv2d(3, 6, 3, padding="same"), nn.BatchNorm2d(6, track_running_stats=False), nn.Conv2d(6, 4, 3)),
    "1d": (nn.Flatten(2), nn.Conv1d(3, 6, 5), nn.BatchNorm1d(6), nn.ReLU(), nn.Conv1d(6, 4, 3, stride=2)),
    "3d": (nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 5, 3, padding=1), nn.BatchNorm3d(5), nn.ReLU(), nn.Conv3d(5, 3, 3)),
    "flat": (nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)),
    "transposed": (nn.ConvTranspose2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)),
}


def hessian_gradient(network: nn.Module, weights: Sequence[Tensor], x: Tensor) -> list[Tensor]:
    """Return the first derivatives of a loss, and the derivatives of their squared norm."""
    outputs = network(x)
    loss = F.cross_entropy(outputs.flatten(1), torch.arange(len(x)) % 3)
    first = torch.autograd.grad(loss, weights, create_graph=True)
    squares = torch.stack([part.square().sum() for part in first]).sum()
    second = torch.autograd.grad(squares, weights, materialize_grads=True)
    return [outputs.detach(), *(part.detach() for part in first), *second]


@pytest.mark.parametrize("what", ["weights", "all"])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", NETWORKS)
def test_second_derivatives_are_those_of_pytorch(name: str, mode: str, what: str) -> None:
    network = nn.Sequential(*NETWORKS[name]).double().train(mode == "train")
    parameters = list(network.parameters())
    for parameter in parameters:
        parameter.requires_grad_(what == "all" or parameter.dim() > 1)
    chosen = [parameter for parameter in parameters if parameter.requires_grad]
    x = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = hessian_gradient(network, chosen, x)
    with fast_second_derivatives(network):
        found = hessian_gradient(network, chosen, x)
    largest = max(part.abs().max() for part in expected)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12 * float(largest)) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_first_derivatives_are_the_same_bits(name: str) -> None:
    network = nn.Sequential(*NETWORKS[name]).float().train()
    weights = [parameter.requires_grad_(parameter.dim() > 1) for parameter in network.parameters()]
    chosen = [weight for weight in weights if weight.requires_grad]
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = hessian_gradient(network, chosen, x)
    with fast_second_derivatives(network):
        found = hessian_gradient(network, chosen, x)
    assert all(torch.equal(a, b) for a, b in zip(found[: 1 + len(chosen)], expected, strict=False))


def test_layers_are_their_own_again_afterwards_even_after_an_error() -> None:
    network = nn.Sequential(*NETWORKS["plain"])
    with pytest.raises(RuntimeError, match="in the block"), fast_second_derivatives(network):
        assert any("forward" in vars(layer) for layer in network)
        raise RuntimeError("in the block")
    assert not any("forward" in vars(layer) for layer in network)


def test_a_forward_of_ones_own_is_left_alone() -> None:
    layer = nn.Conv2d(3, 4, 3)
    layer.forward = lambda x: x + 1  # type: ignore[method-assign,assignment]
    with fast_second_derivatives(layer):
        assert layer(torch.zeros(1)) == 1
    assert layer(torch.zeros(1)) == 1


def test_a_batchnorm_of_one_value_is_refused_as_ever() -> None:
    norm = nn.BatchNorm1d(3)
    with fast_second_derivatives(norm), pytest.raises(ValueError, match="more than 1 value"):
        norm(torch.zeros(1, 3))
