from __future__ import annotations

import functools
import threading

import pytest
import torch
from torch import Tensor, nn

from models.copying import copied


class KeepsActivations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Linear(3, 2), {"all": [torch.zeros(1)]}

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        self.seen["all"].append(out)
        return out


class HoldsWhatCannotBeCopied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.lock = nn.Linear(3, 2), threading.Lock()
        self.nested = [{"numbers": (number for number in range(3))}]

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            out: Tensor = self.layer(x)
        return out


class ForwardOfItsOwn(nn.Module):
    """Its forward method is a function that refers to the module, as patches of other libraries are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.forward = lambda x: self.layer(x) + 1


def hooked() -> nn.Module:
    model, scale = nn.Sequential(nn.Linear(3, 2)), nn.Parameter(torch.full((), 2.0))
    model.register_parameter("scale", scale)
    model[0].register_forward_hook(lambda _module, _inputs, output: output * model.scale)
    return model


def partially_bound() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2))
    model.forward = functools.partial(nn.Sequential.forward, model)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    "build",
    [KeepsActivations, HoldsWhatCannotBeCopied, ForwardOfItsOwn, hooked, partially_bound, lambda: nn.LSTM(3, 2)],
)
def test_a_copy_computes_the_same_and_shares_no_weights(build: type[nn.Module]) -> None:
    model, x = build(), torch.randn(4, 3)
    before = model(x)
    copy = copied(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
    zeroed, again = copy(x), model(x)

    before, again, zeroed = (outs[0] if isinstance(outs, tuple) else outs for outs in (before, again, zeroed))
    assert torch.equal(again, before), "the copy's weights are those of the network"
    assert not torch.equal(zeroed, before), "the copy runs with the network's weights"


def test_what_a_hook_collects_from_the_copy_is_the_copys() -> None:
    model, seen = nn.Linear(3, 2), []
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    copied(model)(torch.randn(1, 3))
    assert not seen


def test_a_module_that_cannot_be_copied_at_all_raises_its_own_error() -> None:
    class Refuses(nn.Module):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise RuntimeError("not this one")

    with pytest.raises(RuntimeError, match="not this one"):
        copied(nn.Sequential(Refuses()))
