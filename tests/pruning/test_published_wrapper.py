"""The interface and the rounding of the published PruningWrapper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foundations.errors import UsageError
from pruning.prune import prune
from pruning.wrapper.wrapper import PruningWrapper
from tests.pruning.nets import TinyNet
from tests.pruning.test_wrapper import moved, train, wrap


def everything(_: str) -> bool:
    return True


def test_the_published_arguments_in_their_order() -> None:
    network = TinyNet()
    wrapper = PruningWrapper(network, 0.5, "cpu", None, True, True, everything)
    assert wrapper.net is wrapper.model is network
    assert (wrapper.method, wrapper.init_method) == ("random", "random")
    assert set(wrapper.mask) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize(
    "given",
    [
        {"network": TinyNet(), "save_dir": "x", "random_prune": True},
        {"model": TinyNet(), "dir_name": "x", "method": "random"},
        {"network": TinyNet(), "save_dir": "x", "dir_name": "x", "method": "random", "random_prune": True},
    ],
)
def test_either_spelling_of_an_argument_will_do(given: dict[str, Any]) -> None:
    wrapper = PruningWrapper(prune_rate=0.5, device="cpu", **given)
    assert str(wrapper.dir_name) == "x"
    assert (wrapper.method, wrapper.init_method) == ("random", "rewind")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": TinyNet(), "model": TinyNet()}, "network, model: they are two names of one argument"),
        ({"network": TinyNet(), "save_dir": "x", "dir_name": "y"}, "save_dir, dir_name: they are two names"),
        ({"network": TinyNet(), "method": "magnitude", "random_prune": True}, "method, random_prune: .*contradict"),
        ({"network": TinyNet(), "init_method": "rewind", "random_initialization": True}, "init_method, random_init"),
        ({}, "network: a torch.nn.Module is needed"),
        (
            {"network": TinyNet(), "filter_function": lambda _: False},
            r"filter_function: it excludes all 21 parameters, such as 'block1.bn1.bias'",
        ),
        ({"network": TinyNet(), "filter_function": "weight"}, "filter_function: it must be a function"),
        ({"network": nn.LazyLinear(3), "filter_function": everything}, "'bias' has no shape yet"),
        ({"network": TinyNet(), "rounding": "up"}, "'up' is not a valid value"),
        ({"network": TinyNet(), "prune_rate": True}, "prune_rate: True"),
        ({"network": TinyNet(), "prune_rate": math.nan}, "prune_rate: nan"),
    ],
)
def test_arguments_that_do_not_fit_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruningWrapper(**{"device": "cpu", "save_dir": None, **given})


@pytest.mark.parametrize("random_prune", [False, True])
@pytest.mark.parametrize("rounding", ["nearest", "pruning_wrapper"])
def test_a_filter_by_name_prunes_any_parameter(random_prune: bool, rounding: Any) -> None:
    network = TinyNet()
    total = sum(parameter.numel() for parameter in network.parameters())
    wrapper = wrap(network, prune_rate=0.3, filter_function=everything, random_prune=random_prune, rounding=rounding)
    for _ in range(3):
        train(wrapper)
        wrapper.prune_weights()
        wrapper.reinitialize()
        train(wrapper)
        assert moved(wrapper) == 0
    assert wrapper.calculate_percent_pruned()[1] == total
    assert not wrapper.mask["fc.bias"].all() or not wrapper.mask["bn.weight"].all() or not wrapper.mask["bn.bias"].all()


def test_a_filter_chooses_among_the_weights_of_layer_types() -> None:
    wrapper = wrap(TinyNet(), filter_function=lambda name: "block1" in name, layer_types=(nn.Conv2d,))
    assert list(wrapper.mask) == ["block1.conv1.weight", "block1.conv2.weight"]


def test_the_demos_filter() -> None:
    wrapper = wrap(TinyNet(), filter_function=lambda name: "weight" in name and "fc" not in name)
    assert "bn.weight" in wrapper.mask
    assert "fc.weight" not in wrapper.mask


def test_the_fraction_pruned_is_from_0_to_1_and_printed_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.25)
    assert wrapper.calculate_percent_pruned() == (800, 800, 0.0)
    assert not capsys.readouterr().out
    wrapper.prune_weights(verbose=True)
    assert capsys.readouterr().out == "600 of 800 weights are left (25% pruned).\n"
    assert wrapper.calculate_percent_pruned(verbose=True) == (600, 800, 0.25)
    assert "600 of 800" in capsys.readouterr().out


def published_magnitude(weights: torch.Tensor, kept: torch.Tensor, rate: float) -> torch.Tensor:
    """Return the published code's mask: all weights above the k-th of the sorted magnitudes, counted from 0."""
    sizes = sorted(float(size) for size in weights[kept].abs())
    threshold = sizes[int(len(sizes) * rate)]
    return torch.tensor(
        [bool(is_kept) and float(w) > threshold for w, is_kept in zip(weights.abs(), kept, strict=True)]
    )


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-4, 4), min_size=1, max_size=12),
    rate=st.floats(0, 1, exclude_max=True),
    rounds=st.integers(1, 3),
)
def test_published_rounding_prunes_one_weight_more_and_all_ties(values: list[int], rate: float, rounds: int) -> None:
    layer = nn.Linear(len(values), 1, bias=False)
    layer.weight.data = torch.tensor([values], dtype=torch.float32)
    wrapper = wrap(layer, prune_rate=rate, rounding="pruning_wrapper")
    expected = torch.ones(len(values), dtype=torch.bool)
    for _ in range(rounds):
        if expected.any():
            expected = published_magnitude(layer.weight.detach().flatten(), expected, rate)
        wrapper.prune_weights()
        assert torch.equal(wrapper.mask["weight"].flatten(), expected)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 30), rate=st.floats(0, 1))
def test_the_two_roundings_of_random_pruning(size: int, rate: float) -> None:
    for rounding, kept in (
        ("pruning_wrapper", size - int(size * rate)),
        ("nearest", prune(nn.Linear(size, 1), "magnitude", fraction=rate).kept),
    ):
        wrapper = wrap(nn.Linear(size, 1), prune_rate=rate, random_prune=True, rounding=rounding)
        assert wrapper.prune_weights().kept == kept


def test_a_rate_of_1_prunes_all_in_either_rounding() -> None:
    for rounding in ("nearest", "pruning_wrapper"):
        wrapper = wrap(TinyNet(), prune_rate=1.0, rounding=rounding)
        for _ in range(2):
            assert wrapper.prune_weights().kept == 0


def test_weights_that_are_not_numbers_are_named_in_either_rounding() -> None:
    for rounding in ("nearest", "pruning_wrapper"):
        network = TinyNet()
        wrapper = wrap(network, prune_rate=0.5, rounding=rounding)
        network.fc.weight.data.fill_(math.nan)
        with pytest.raises(UsageError, match=r"fc\.weight"):
            wrapper.prune_weights()
        assert wrapper.rounds == 0


def test_the_number_pruned_is_that_of_prune() -> None:
    wrapper = wrap(nn.Linear(5, 1), prune_rate=0.5)
    assert wrapper.prune_weights().kept == 2
    assert wrapper.prune_weights(0.25).kept == 1
