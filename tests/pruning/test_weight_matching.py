"""Permutations of units, and the one that brings the weights of two networks together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foundations.errors import UsageError
from foundations.inputs import Inputs
from models.build import build_model
from models.hparams import ModelHparams
from pruning.paths.assignment import best_permutation
from pruning.paths.unit_groups import permuted, unit_groups
from pruning.paths.weight_matching import weight_matching
from tests.pruning.nets import LeNet, ResNet, TinyNet


@given(size=st.integers(1, 6), seed=st.integers(0, 10**6), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_best_permutation_is_that_of_a_search_over_all(size: int, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    gains = random.integers(-2, 3, (size, size)).astype(float) if ties else random.normal(size=(size, size))

    found = best_permutation(gains)

    assert sorted(found) == list(range(size))
    best = max(sum(gains[row, order[row]] for row in range(size)) for order in itertools.permutations(range(size)))
    assert gains[np.arange(size), found].sum() == pytest.approx(best)


class Depthwise(nn.Module):
    """A depthwise and a transposed convolution, layer norm, and a flattening with several entries a unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.depthwise = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up, self.fc, self.norm = nn.ConvTranspose2d(6, 4, 2), nn.Linear(196, 5), nn.LayerNorm(5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.up(torch.relu(self.depthwise(torch.relu(self.first(x))))))
        return self.last(torch.relu(self.norm(self.fc(x.flatten(1)))))


def vgg() -> nn.Module:
    hparams = ModelHparams.of({"model_name": "cifar_vgg_11_8"})
    return build_model(hparams, outputs=10, inputs=Inputs((3, 32, 32)), seed_keys=(1,))


NETWORKS = {
    "mlp": (lambda: LeNet([6, 5], 3, 8), (8,), 2),
    "vgg": (vgg, (3, 32, 32), 8),
    "resnet": (lambda: ResNet(8, 4), (3, 32, 32), 6),
    "projections": (TinyNet, (2, 6, 6), None),
    "depthwise": (Depthwise, (2, 6, 6), 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_permuted_units_are_found_again_and_leave_the_outputs_as_they_are(name: str) -> None:
    torch.manual_seed(0)
    build, shape, number = NETWORKS[name]
    model = build().double().eval()
    state = {
        key: torch.rand_like(t) + 0.1 if "running" in key else torch.randn_like(t) if t.is_floating_point() else t
        for key, t in model.state_dict().items()
    }
    groups = unit_groups(model, shape)
    orders = [torch.randperm(group.units) for group in groups]
    moved = permuted(state, groups, orders)
    example = torch.randn(2, *shape, dtype=torch.float64)
    outputs = []
    for each in (state, moved):
        model.load_state_dict(each)
        outputs.append(model(example))

    found = weight_matching(state, moved, groups, dict(model.named_parameters()))

    assert number is None or len(groups) == number
    assert any(not torch.equal(state[key], moved[key]) for key in state)
    assert torch.allclose(outputs[0], outputs[1], rtol=1e-9)
    back = permuted(moved, groups, found)
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_no_turn_makes_weights_less_alike_and_none_of_them_is_changed() -> None:
    torch.manual_seed(0)
    first, second = LeNet([12, 9], 3, 8).double(), LeNet([12, 9], 3, 8).double()
    groups = unit_groups(first, (8,))
    states, names = [each.state_dict() for each in (first, second)], dict(first.named_parameters())
    before = {key: t.clone() for key, t in states[1].items()}

    fitted = permuted(states[1], groups, weight_matching(states[0], states[1], groups, names))

    def product(state: dict[str, torch.Tensor]) -> float:
        return sum(float((states[0][key] * state[key]).sum()) for key in state)

    assert product(fitted) > product(before)
    assert all(torch.equal(t, before[key]) for key, t in states[1].items())
    for swapped in itertools.combinations(range(12), 2):  # no exchange of two units of the first layer is better
        order = torch.arange(12)
        order[list(swapped)] = torch.tensor(swapped[::-1])
        assert product(permuted(fitted, groups, [order, torch.arange(9)])) <= product(fitted) + 1e-9


class Normalized(nn.Module):
    """A normalization over groups of neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x)))).flatten(1)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0].mean(1)


class Shared(nn.Module):
    """A layer that runs on the units of two others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.shared(torch.relu(self.shared(torch.relu(self.first(x)))))))


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (Normalized(), (2, 6, 6), "depend on the order"),
        (Attending(), (3, 8), "cannot be followed"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1, groups=2)), (4, 3, 3), "grouped convolution"),
    ],
)
def test_networks_whose_units_cannot_be_permuted_are_refused(
    model: nn.Module, shape: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        unit_groups(model, shape)


def test_a_layer_that_runs_twice_has_one_order_for_its_inputs_and_outputs_or_is_refused() -> None:
    with pytest.raises(UsageError, match="several layers|depend on the order"):
        unit_groups(Shared(), (4,))


def test_states_of_different_networks_or_without_values_are_refused() -> None:
    model, other = LeNet([6, 5], 3, 8), LeNet([7, 5], 3, 8)
    groups, names = unit_groups(model, (8,)), dict(model.named_parameters())
    with pytest.raises(UsageError, match="different networks"):
        weight_matching(model.state_dict(), other.state_dict(), groups, names)
    broken = {key: t * float("nan") for key, t in model.state_dict().items()}
    with pytest.raises(UsageError, match="not finite"):
        weight_matching(model.state_dict(), broken, groups, names)
