"""Deep copies of modules whose functions refer to them."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.copying import copied


def closure(layer: nn.Linear) -> None:
    forward = layer.forward
    vars(layer)["forward"] = lambda x: forward(x) * 2


def closure_in_a_closure(layer: nn.Linear) -> None:
    forward = layer.forward

    def doubled(x: Tensor) -> Tensor:
        return forward(x) * 2

    @functools.wraps(doubled)
    def outer(*args: Any) -> Tensor:
        return doubled(*args)

    vars(layer)["forward"] = outer


def closure_in_a_list(layer: nn.Linear) -> None:
    forward = layer.forward
    functions = [lambda x: forward(x), lambda x: x * 2]
    vars(layer)["forward"] = lambda x: functions[1](functions[0](x))


def default(layer: nn.Linear) -> None:
    vars(layer)["forward"] = lambda x, forward=layer.forward: forward(x) * 2


def named_default(layer: nn.Linear) -> None:
    def doubled(x: Tensor, *, forward: Callable[[Tensor], Tensor] = layer.forward) -> Tensor:
        return forward(x) * 2

    vars(layer)["forward"] = doubled


def bound_closure(layer: nn.Linear) -> None:
    weight, bias = layer.weight, layer.bias
    vars(layer)["forward"] = types.MethodType(lambda _, x: F.linear(x, weight, bias) * 2, layer)


def partial_of_a_closure(layer: nn.Linear) -> None:
    forward = layer.forward
    vars(layer)["forward"] = functools.partial(lambda by, x: forward(x) * by, 2)


def attribute_of_a_function(layer: nn.Linear) -> None:
    def doubled(x: Tensor) -> Tensor:
        return doubled.forward(x) * 2  # type: ignore[attr-defined]

    doubled.forward = layer.forward  # type: ignore[attr-defined]
    vars(layer)["forward"] = doubled


def called_object(layer: nn.Linear) -> None:
    forward = layer.forward

    class Doubled:
        def __init__(self) -> None:
            self.function = lambda x: forward(x) * 2

        def __call__(self, x: Tensor) -> Tensor:
            return self.function(x)

    vars(layer)["forward"] = Doubled()


def hook(layer: nn.Linear) -> None:
    def doubled(x: Tensor) -> Tensor:
        return (x @ layer.weight.T + layer.bias) * 2

    layer.register_forward_hook(lambda _module, inputs, _output: doubled(inputs[0]))


@pytest.mark.parametrize(
    "change",
    [
        closure,
        closure_in_a_closure,
        closure_in_a_list,
        default,
        named_default,
        bound_closure,
        partial_of_a_closure,
        attribute_of_a_function,
        called_object,
        hook,
    ],
)
@pytest.mark.parametrize("is_registered", [True, False])
def test_functions_of_a_copy_refer_to_the_copy(change: Callable[[nn.Linear], None], is_registered: bool) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3) if is_registered else None
            self.plain = [self.layer or nn.Linear(3, 3)]

        def forward(self, x: Tensor) -> Tensor:
            return self.plain[0](x)

    model = Outer()
    change(model.plain[0])
    x = torch.randn(2, 3)
    expected = model(x)
    copy = copied(copied(model))
    assert torch.equal(copy(x), expected)

    with torch.no_grad():
        vars(copy)["plain"][0].weight.zero_()
        vars(copy)["plain"][0].bias.fill_(3)
    assert torch.equal(model(x), expected)
    assert torch.equal(copy(x), torch.full((2, 3), 6.0))


def test_functions_without_state_stay_the_same_objects() -> None:
    def doubled(x: Tensor, by: float = 2.0) -> Tensor:
        return x * by

    model = nn.Module()
    model.activation, model.pooling, model.own = F.relu, F.max_pool2d, doubled  # type: ignore[assignment]
    copy = copied(model)
    assert (copy.activation, copy.pooling, copy.own) == (F.relu, F.max_pool2d, doubled)
