from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.paths.path_kernel import path_kernel_trace
from pruning.prune import prune
from tests.pruning.nets import ResNet


def perceptron() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [nn.Linear(a, b, bias=False) for a, b in ((3, 4), (4, 3), (3, 2))]
        return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def by_paths(model: nn.Sequential, mask: Mask) -> float:
    """Walk every path from input to output and sum the squares of ∂π/∂θ over its weights."""
    first, second, third = (model.get_parameter(f"{index}.weight").detach().double() for index in (0, 2, 4))
    kept = [mask[f"{index}.weight"] for index in (0, 2, 4)]
    total = 0.0
    for i, a, b, o in itertools.product(range(3), range(4), range(3), range(2)):
        if kept[0][a, i] and kept[1][b, a] and kept[2][o, b]:
            x, y, z = first[a, i].item(), second[b, a].item(), third[o, b].item()
            total += (y * z) ** 2 + (x * z) ** 2 + (x * y) ** 2
    return total


@pytest.mark.parametrize("density", [1.0, 0.6, 0.3])
def test_the_trace_is_the_sum_over_paths_and_their_weights(density: float) -> None:
    model = perceptron()
    mask = prune(model, "random", density=density)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    assert path_kernel_trace(model, (3,), mask) == pytest.approx(by_paths(model, mask), rel=1e-12)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


def test_without_a_mask_all_weights_are_there() -> None:
    model = perceptron()
    assert path_kernel_trace(model, (3,)) == path_kernel_trace(model, (3,), Mask.ones(model))


def test_walks_keep_more_of_the_trace_than_random_weights() -> None:
    model = ResNet(8, 8)
    traces = [
        path_kernel_trace(model, (3, 32, 32), prune(model, method, density=0.1, input_shape=(3, 32, 32)))
        for method in ("random", "phew")
    ]
    assert 10 * traces[0] < traces[1] < path_kernel_trace(model, (3, 32, 32))


def test_the_mask_of_another_network_is_refused() -> None:
    with pytest.raises(UsageError, match="the mask has a tensor"):
        path_kernel_trace(perceptron(), (3,), Mask.ones(ResNet(8, 8)))
