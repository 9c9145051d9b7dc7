from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruning.masks.mask import Mask
from pruning.masks.optimizer_state import ELEMENTWISE, OTHERS, OptimizerStateWarning
from pruning.prune import prune
from pruning.wrapper.wrapper import PruningWrapper

OF_TORCH = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True},
    "AdamW": {"amsgrad": True},
}


class Shampoo(torch.optim.Optimizer):
    """Two square matrices for each weight, and a momentum."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for weight in self.param_groups[0]["params"]:
            state = self.state[weight]
            if not state:
                state["left"], state["right"] = (torch.eye(size) for size in weight.shape)
                state["average"] = torch.zeros_like(weight)
            state["left"] += weight.grad @ weight.grad.T
            state["right"] += weight.grad.T @ weight.grad
            state["average"].lerp_(weight.grad, 0.1)
            weight -= 0.1 * torch.linalg.solve(state["left"], state["average"])


class OwnAdam(torch.optim.Adam):
    """Adam with one more average of the gradient."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        super().step()
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["slow"] = weight.grad.clone()


def square() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    source = torch.Generator().manual_seed(0)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(model(torch.randn(12, 6, generator=source)), torch.arange(12) % 6)
        value.backward()
        return value

    for _ in range(steps):
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(loss)
        else:
            loss()
            optimizer.step()


def pruned_parts(mask: Mask, model: nn.Module, optimizer: torch.optim.Optimizer, *keys: str) -> list[torch.Tensor]:
    return [optimizer.state[model.get_parameter(name)][key][~kept] for name, kept in mask.items() for key in keys]


@pytest.mark.parametrize("name", sorted(set(OF_TORCH) - {"SparseAdam"}))
def test_weights_and_all_elementwise_state_of_an_optimizer_of_torch_are_zero_without_a_warning(name: str) -> None:
    model = square()
    optimizer = OF_TORCH[name](model.parameters(), **OPTIONS.get(name, {}))
    mask = prune(model, "magnitude", density=0.3)
    mask.attach(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer)
    for weight_name, kept in mask.items():
        weight = model.get_parameter(weight_name)
        assert not weight[~kept].any()
        for key, tensor in optimizer.state.get(weight, {}).items():
            if torch.is_tensor(tensor):
                assert key in {*ELEMENTWISE[name], *OTHERS}
                assert (key in ELEMENTWISE[name]) == (tensor.shape == kept.shape)
                assert key in OTHERS or not tensor[~kept].any()


def test_every_optimizer_of_torch_is_known() -> None:
    assert set(ELEMENTWISE) == set(OF_TORCH)


def test_rows_and_columns_of_adafactor_are_left_alone_even_where_they_have_the_weights_shape() -> None:
    model = nn.Linear(6, 1, bias=False)
    optimizer = torch.optim.Adafactor(model.parameters())
    twin = nn.Linear(6, 1, bias=False)
    twin.load_state_dict(model.state_dict())
    mask = prune(model, "magnitude", density=0.5)
    mask.attach(optimizer)
    mask.apply_(twin)
    plain = torch.optim.Adafactor(twin.parameters())
    for each, own in ((model, optimizer), (twin, plain)):
        each(torch.ones(2, 6)).sum().backward()
        own.step()
    assert torch.equal(optimizer.state[model.weight]["col_var"], plain.state[twin.weight]["col_var"])


def test_state_of_an_unknown_optimizer_stays_whole_and_is_named_once() -> None:
    model = square()
    mask = prune(model, "magnitude", density=0.3)
    optimizer = Shampoo(model.parameters())
    mask.attach(optimizer)
    with pytest.warns(OptimizerStateWarning, match=r"Shampoo has state .*: average, left, right\. .*state=") as found:
        train(model, optimizer, 1)
        left = optimizer.state[model.get_parameter("0.weight")]["left"]
        train(model, optimizer)
    assert len(found) == 1
    torch.testing.assert_close(left, left.T)
    assert not any(model.get_parameter(name)[~kept].any() for name, kept in mask.items())


@pytest.mark.parametrize("state", ["average", ("average",), ()])
def test_state_that_is_named_is_zeroed_and_no_other(state: str | tuple[str, ...]) -> None:
    model = square()
    mask = prune(model, "magnitude", density=0.3)
    optimizer = Shampoo(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask.attach(optimizer, state=state)
        train(model, optimizer)
    assert any(part.any() for part in pruned_parts(mask, model, optimizer, "average")) == (state == ())
    assert all(part.any() for part in pruned_parts(mask, model, optimizer, "right"))


def test_a_wrapper_knows_the_names_in_later_rounds_too() -> None:
    wrapper = PruningWrapper(square(), 0.5, "cpu", None)
    optimizer = Shampoo(wrapper.parameters())
    wrapper.attach(optimizer, state="average")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            train(wrapper, optimizer)
            wrapper.prune_weights()
        train(wrapper, optimizer, 1)
    assert not any(part.any() for part in pruned_parts(wrapper.mask, wrapper.model, optimizer, "average"))


def test_a_subclass_of_adam_is_adam_and_its_own_state_is_named() -> None:
    model = square()
    mask = prune(model, "magnitude", density=0.3)
    optimizer = OwnAdam(model.parameters())
    mask.attach(optimizer)
    with pytest.warns(OptimizerStateWarning, match="OwnAdam has state .*: slow"):
        train(model, optimizer)
    assert not any(part.any() for part in pruned_parts(mask, model, optimizer, "exp_avg", "exp_avg_sq"))
    assert all(part.any() for part in pruned_parts(mask, model, optimizer, "slow"))


def test_a_name_that_no_state_has_is_named_with_those_that_there_are() -> None:
    model = square()
    mask = prune(model, "magnitude", density=0.3)
    optimizer = Shampoo(model.parameters())
    mask.attach(optimizer, state=("avrage",))
    with pytest.warns(OptimizerStateWarning, match="no state named avrage; it has average, left, right"):
        train(model, optimizer)
