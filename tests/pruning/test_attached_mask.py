from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.prune import prune
from tests.pruning.nets import TinyNet

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=1e-2),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, weight_decay=1e-2),
    "amsgrad": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2, amsgrad=True),
    "adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=1e-1),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, momentum=0.9, centered=True),
    "fused adamw": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, weight_decay=1e-1, fused=True),
}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    source = torch.Generator().manual_seed(number)
    optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(6, 2, 6, 6, generator=source)), torch.arange(6) % 3).backward()
    optimizer.step()


def everything_pruned(mask: Mask, model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return the pruned entries of every weight and of every state tensor of its shape."""
    found = []
    for name, parameter in model.named_parameters():
        if name in mask:
            for tensor in (parameter, *optimizer.state.get(parameter, {}).values()):
                if isinstance(tensor, torch.Tensor) and tensor.shape == parameter.shape:
                    found.append(tensor.detach()[~mask[name]])
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pruned_weights_and_their_optimizer_state_are_zero_after_every_step(name: str) -> None:
    model = TinyNet()
    optimizer = OPTIMIZERS[name](model)
    step(model, optimizer, 0)
    mask = prune(model, "random", density=0.3)
    mask.attach(optimizer)
    assert not any(part.any() for part in everything_pruned(mask, model, optimizer))
    for number in range(1, 6):
        step(model, optimizer, number)
        assert not any(part.any() for part in everything_pruned(mask, model, optimizer)), number


def test_kept_weights_train_as_they_would_in_a_network_without_the_pruned_ones() -> None:
    """The same steps by hand, with weights multiplied by the mask in the forward pass."""
    model, twin = TinyNet(), TinyNet()
    mask = prune(model, "random", density=0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    mask.attach(optimizer)
    mask.apply_(twin)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for number in range(4):
        step(model, optimizer, number)
        source = torch.Generator().manual_seed(number)
        plain.zero_grad()
        F.cross_entropy(twin(torch.randn(6, 2, 6, 6, generator=source)), torch.arange(6) % 3).backward()
        for name, parameter in twin.named_parameters():
            if name in mask and parameter.grad is not None:
                parameter.grad *= mask[name]
        plain.step()
    for mine, theirs in zip(model.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_detaching_lets_pruned_weights_move_again() -> None:
    model = TinyNet()
    mask = prune(model, "magnitude", density=0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = mask.attach(optimizer)
    handle.detach()
    step(model, optimizer, 0)
    assert any(part.any() for part in everything_pruned(mask, model, optimizer))


def test_loading_the_optimizers_state_does_not_loosen_the_mask() -> None:
    model = TinyNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    mask = prune(model, "magnitude", density=0.3)
    mask.attach(optimizer)
    step(model, optimizer, 0)
    optimizer.load_state_dict(optimizer.state_dict())
    step(model, optimizer, 1)
    assert not any(part.any() for part in everything_pruned(mask, model, optimizer))


def test_weights_in_another_precision_stay_zero() -> None:
    model = nn.Linear(8, 4)
    mask = prune(model, "magnitude", density=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    mask.attach(optimizer)
    model.to(torch.bfloat16)
    model(torch.ones(2, 8, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    assert not model.weight[~mask["weight"]].any()


def test_an_optimizer_of_a_copy_of_the_network_is_refused() -> None:
    model = TinyNet()
    mask = prune(model, "magnitude", density=0.3)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1)
    with pytest.raises(UsageError, match="optimizer: it holds none of the 7 tensors.* of a copy of the network"):
        mask.attach(optimizer)
    with pytest.raises(UsageError, match="of another network"):
        mask.attach(torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=0.1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_network_of_the_optimizer_can_be_passed() -> None:
    model = TinyNet()
    mask = prune(model, "magnitude", density=0.3)
    other = copy.deepcopy(model)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    mask.attach(optimizer, other)
    step(other, optimizer, 0)
    assert not any(part.any() for part in everything_pruned(mask, other, optimizer))


def test_weights_that_another_optimizer_trains_are_named() -> None:
    model = TinyNet()
    mask = prune(model, "magnitude", density=0.3)
    with pytest.warns(UserWarning, match=r"does not hold fc\.weight \(1 of the mask's 7 tensors\)"):
        mask.attach(torch.optim.SGD([p for name, p in model.named_parameters() if name != "fc.weight"], lr=0.1))


@pytest.mark.parametrize("layers", [("fc",), ("conv", "block1", "block2", "fc")], ids=["one", "all"])
def test_frozen_layers_need_not_be_in_the_optimizer(layers: tuple[str, ...]) -> None:
    model = TinyNet()
    mask = prune(model, "magnitude", density=0.3)
    for layer in layers:
        model.get_submodule(layer).requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask.attach(optimizer)
        step(model, optimizer, 0)
    assert not any(part.any() for part in everything_pruned(mask, model, optimizer))


def test_a_mask_that_knows_no_model_asks_for_it() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = Mask({"weight": torch.tensor([[1, 0]])})
    with pytest.raises(UsageError, match="pass model="):
        mask.attach(optimizer)
    mask.attach(optimizer, model)
    assert model.weight[0, 1] == 0


@pytest.mark.parametrize("change", ["state", "precision", "values"])
def test_a_mask_holds_where_the_weights_or_the_state_are_others_later(change: str) -> None:
    model = TinyNet()
    optimizer = OPTIMIZERS["momentum"](model)
    mask = prune(model, "magnitude", density=0.3)
    mask.attach(optimizer, model)
    for number in range(4):
        if number == 2 and change == "state":
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            optimizer.state.clear()
        elif number == 2 and change == "precision":
            model.double()
            optimizer.state.clear()
        elif number == 2:
            for parameter in model.parameters():
                parameter.data = torch.ones_like(parameter)
        optimizer.zero_grad()
        model(torch.randn(6, 2, 6, 6).to(next(model.parameters()))).square().sum().backward()
        optimizer.step()
        for name, weight in mask.weights_of(model).items():
            assert isinstance(weight, nn.Parameter)
            pruned = ~mask[name]
            assert not weight.detach()[pruned].any()
            assert not optimizer.state[weight]["momentum_buffer"][pruned].any()
            assert weight.detach()[mask[name]].any()
