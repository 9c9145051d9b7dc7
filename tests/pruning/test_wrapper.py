from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError
from pruning.wrapper import PruningWrapper
from tests.pruning.nets import TinyNet


def train(wrapper: PruningWrapper, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1, momentum=0.9)
    wrapper.attach(optimizer)
    source = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(wrapper(torch.randn(6, 2, 6, 6, generator=source)), torch.arange(6) % 3).backward()
        optimizer.step()


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_rounds_of_training_pruning_and_rewinding(method: Literal["magnitude", "random"]) -> None:
    model = TinyNet()
    initial = copy.deepcopy(model.state_dict())
    wrapper = PruningWrapper(model, prune_rate=0.5, method=method)
    left = wrapper.mask.total
    for _ in range(3):
        before = wrapper.mask
        train(wrapper)
        wrapper.prune_weights()
        wrapper.reinitialize()
        left -= round(left * 0.5)
        assert wrapper.mask.kept == left
        assert wrapper.mask.union(before) == before
        for name, kept in wrapper.mask.items():
            assert torch.equal(model.get_parameter(name), initial[name] * kept)
        assert torch.equal(model.get_buffer("bn.running_mean"), initial["bn.running_mean"])
    pruned, total, percent = wrapper.calculate_percent_pruned()
    assert (pruned, total) == (wrapper.mask.total - left, wrapper.mask.total)
    assert percent == pytest.approx(100 * (1 - left / total))


def test_pruned_weights_stay_zero_in_training() -> None:
    wrapper = PruningWrapper(TinyNet(), prune_rate=0.7)
    wrapper.prune_weights()
    train(wrapper)
    for name, kept in wrapper.mask.items():
        assert not wrapper.model.get_parameter(name)[~kept].any()


def test_initial_weights_can_be_set_later() -> None:
    wrapper = PruningWrapper(TinyNet())
    train(wrapper)
    wrapper.set_initial_weights()
    later = copy.deepcopy(wrapper.model.state_dict())
    train(wrapper)
    wrapper.reinitialize()
    assert all(torch.equal(wrapper.model.state_dict()[name], tensor) for name, tensor in later.items())


def test_random_reinitialization_draws_new_weights_under_the_mask_from_its_seed() -> None:
    wrappers = [PruningWrapper(TinyNet(), prune_rate=0.5, seed=seed) for seed in (1, 1, 2)]
    state = torch.get_rng_state()
    for wrapper in wrappers:
        wrapper.prune_weights()
        wrapper.reinitialize(randomly=True)
    first, same, other = (wrapper.model.get_parameter("fc.weight") for wrapper in wrappers)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert not first[~wrappers[0].mask["fc.weight"]].any()


def test_only_the_chosen_layer_types_are_pruned() -> None:
    model = TinyNet()
    wrapper = PruningWrapper(model, prune_rate=0.5, layer_types=(nn.Conv2d,))
    before = model.fc.weight.detach().clone()
    wrapper.prune_weights()
    assert "fc.weight" not in wrapper.mask
    assert torch.equal(model.fc.weight, before)


@pytest.mark.parametrize(
    ("given", "message"), [({"prune_rate": 1.2}, "prune_rate: 1.2"), ({"method": "snip"}, "'snip'")]
)
def test_mistakes_name_the_argument(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruningWrapper(TinyNet(), **given)
