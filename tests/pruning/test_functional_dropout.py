"""Dropout that is called as a function and drops in eval mode too: nothing is dropped while a network is scored."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.masks.mask import Mask
from pruning.prune import prune

X, Y = torch.randn(16, 6, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 4
P = 0.5


class Net(nn.Module):
    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.middle = nn.Linear(6, 8), nn.Linear(8, 4), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def attended(x: Tensor, p: float, by_place: bool) -> Tensor:
    x = x[None]
    if by_place:
        return F.scaled_dot_product_attention(x, x, x, None, p)[0]
    return F.scaled_dot_product_attention(x, x, x, dropout_p=p)[0]


def multi_head(x: Tensor, p: float) -> Tensor:
    x, eye, zeros = x[:, None], torch.eye(8).to(x), torch.zeros(8).to(x)
    of_inputs = torch.cat([eye, eye, eye])
    return F.multi_head_attention_forward(x, x, x, 8, 2, of_inputs, None, None, None, False, p, eye, zeros)[0][:, 0]


def expanded(drop: Callable[[Tensor, float], Tensor], dimensions: int) -> Callable[[Tensor, float], Tensor]:
    return lambda x, p: drop(x[(..., *(None,) * dimensions)], p).flatten(1)


FUNCTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "F.dropout": F.dropout,
    "F.dropout of a keyword": lambda x, p: F.dropout(input=x, p=p),
    "F.dropout in place": lambda x, p: F.dropout(x, p, inplace=True),
    "F.dropout1d": expanded(F.dropout1d, 1),
    "F.dropout2d": expanded(F.dropout2d, 2),
    "F.dropout3d": expanded(F.dropout3d, 3),
    "F.alpha_dropout": lambda x, p: F.alpha_dropout(x, p, training=True),
    "F.feature_alpha_dropout": lambda x, p: F.feature_alpha_dropout(x, p, training=True),
    "torch.dropout": lambda x, p: torch.dropout(x, p, train=True),
    "torch.dropout_": lambda x, p: torch.dropout_(x.clone(), p, train=True),
    "torch.alpha_dropout": lambda x, p: torch.alpha_dropout(x, p, train=True),
    "torch.feature_dropout": lambda x, p: torch.feature_dropout(x, p, train=True),
    "torch.native_dropout": lambda x, p: torch.native_dropout(x, p, train=True)[0],
    "a layer made in the forward pass": lambda x, p: nn.Dropout(p)(x),
    "attention by keyword": lambda x, p: attended(x, p, by_place=False),
    "attention by place": lambda x, p: attended(x, p, by_place=True),
    "attention of several heads": multi_head,
}


def mask_of(name: str, strategy: str, p: float) -> Mask:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Net(lambda x: FUNCTIONS[name](x, p))
    return prune(network, strategy, density=0.4, examples=(X, Y))


@pytest.mark.parametrize("strategy", ["snip4", "grasp4", "synflow", "fisher4", "taylor4", "force4"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_always_drops_changes_no_entry_of_a_mask(name: str, strategy: str) -> None:
    assert mask_of(name, strategy, P) == mask_of(name, strategy, 0.0)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_these_functions_drop_in_eval_mode_outside_of_scoring(name: str) -> None:
    x = torch.randn(16, 8)
    mask_of(name, "snip4", P)
    assert not torch.equal(FUNCTIONS[name](x.clone(), P), FUNCTIONS[name](x.clone(), 0.0))
