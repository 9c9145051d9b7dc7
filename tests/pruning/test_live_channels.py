"""Scores over live channels against scores of the whole network with zeros for pruned weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pruning.kernels.live_channels import LiveChannels
from pruning.masks.mask import Mask

SHAPE = (1, 3, 9, 9)


class Tied(nn.Module):
    """Two layers share a weight, which a third one also uses without being called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.other, self.unused = (
            nn.Conv2d(3, 8, 9),
            nn.Linear(8, 8),
            nn.Linear(8, 8),
            nn.Linear(8, 8),
        )
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.other(torch.relu(self.one(self.conv(x).flatten(1))))


NETWORKS = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2, bias=False), nn.ReLU()
    ),
    "grouped": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 4, 3, dilation=2), nn.Conv2d(4, 4, 1)),
    "padded": lambda: nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, padding_mode="circular"), nn.Conv2d(6, 4, 3)),
    "1d": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Conv1d(8, 6, 3, padding="same")),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(243, 12), nn.ReLU(), nn.Linear(12, 8), nn.Linear(8, 2)),
    "attention": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(81, 8), nn.TransformerEncoderLayer(8, 2, 12)),
    "tied": Tied,
}


def masks(network: nn.Module) -> list[Mask]:
    """Return masks, each of which prunes more weights and more channels than the previous one."""
    source = torch.Generator().manual_seed(0)
    draws = {name: torch.rand(tensor.shape, generator=source) for name, tensor in Mask.ones(network).items()}
    channels = {
        name: torch.rand(draw.shape[0], 1, generator=source) * torch.rand(1, draw.shape[1], generator=source)
        for name, draw in draws.items()
    }
    return [
        Mask(
            {
                name: (draw > level) & (channels[name] > level / 4).view(*draw.shape[:2], *[1] * (draw.dim() - 2))
                for name, draw in draws.items()
            }
        )
        for level in (0.0, 0.2, 0.5, 0.8, 0.95, 1.0)
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_those_of_the_whole_network_as_masks_shrink(name: str) -> None:
    network = NETWORKS[name]().double().eval()
    narrow = copy.deepcopy(network)
    x = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = {weight: narrow.get_parameter(weight) for weight in Mask.ones(network)}
    live = LiveChannels(narrow, weights)
    for mask in masks(network):
        mask.apply_(network)
        mask.apply_(narrow)
        with live.under(mask):
            found = live.scores(narrow(x).pow(3).sum(), lambda weight, gradient: weight * gradient)
        assert not any("forward" in vars(layer) for layer in narrow.modules())
        whole = [network.get_parameter(weight) for weight in mask]
        gradients = torch.autograd.grad(network(x).pow(3).sum(), whole, materialize_grads=True)
        expected = [(weight * gradient).detach() for weight, gradient in zip(whole, gradients, strict=True)]
        largest = max(1e-300, *(float(part.abs().max()) for part in expected))
        assert list(found) == list(mask)
        for mine, theirs in zip(found.values(), expected, strict=True):
            assert mine.shape == theirs.shape
            assert float((mine - theirs).abs().max()) <= 1e-12 * largest


def test_layers_compute_with_live_channels_only() -> None:
    network = nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 4))
    seen: list[tuple[int, ...]] = []
    keeps = torch.zeros(10, 20)
    keeps[2, 3] = keeps[2, 7] = keeps[5, 7] = 1
    mask = Mask({"0.weight": keeps, "1.weight": torch.ones(4, 10)})
    mask.apply_(network)
    live = LiveChannels(network, {name: network.get_parameter(name) for name in mask})

    def product(weight: Tensor, gradient: Tensor) -> Tensor:
        seen.append(tuple(weight.shape))
        return weight * gradient

    with live.under(mask):
        scores = live.scores(network(torch.ones(1, 20)).sum(), product)
    assert seen == [(2, 2), (4, 10)]
    assert bool((scores["0.weight"] != 0).eq(keeps != 0).all())
