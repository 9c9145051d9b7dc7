"""Weights that torch.nn.utils computes: weight_norm, torch.nn.utils.prune, parametrizations."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.prune import prune
from pruning.weights.left_out import UnprunedWarning
from tests.pruning.layer_types import PRUNABLE_COMPUTATIONS, REFUSED_COMPUTATIONS, WRAPPED_LAYERS, in_a_network
from tests.pruning.prunable_rule import assert_counts, expected, prunable, tensors, train


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("layer", WRAPPED_LAYERS)
@pytest.mark.parametrize("computation", PRUNABLE_COMPUTATIONS)
def test_computed_weights_count_like_plain_ones(computation: str, layer: str) -> None:
    make, tensor = WRAPPED_LAYERS[layer]
    plain = in_a_network(make())
    network = in_a_network(make())
    PRUNABLE_COMPUTATIONS[computation][0](network["layer"], tensor)
    kind = type(plain["layer"])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnprunedWarning)
        masks = [prune(case, "magnitude", density=0.5) for case in (plain, network)]
    sentences = [str(warning.message) for warning in caught if warning.category is UnprunedWarning]
    assert_counts(plain, masks[1], expected(plain))
    is_left_out = "layer." + tensor not in expected(plain)
    assert len(sentences) == 2 * is_left_out
    assert len(set(sentences)) <= 1  # a parametrized LSTM is still called LSTM
    for biases in (False, True):
        of_type = prunable(network, prunable_layers=(kind.__name__,), prune_bias=biases)
        assert_counts(plain, of_type, expected(plain, kind=kind, biases=biases))


@pytest.mark.parametrize("layer", WRAPPED_LAYERS)
@pytest.mark.parametrize("computation", PRUNABLE_COMPUTATIONS)
def test_computed_weights_stay_zero_where_they_are_pruned(computation: str, layer: str) -> None:
    make, tensor = WRAPPED_LAYERS[layer]
    wrap, remove = PRUNABLE_COMPUTATIONS[computation]
    network = in_a_network(make())
    wrap(network["layer"], tensor)
    check_computed(network, tensor, prunable(network, prunable_layers="layer"))
    trained = effective(network["layer"], tensor)

    remove(network["layer"], tensor)

    torch.testing.assert_close(network["layer"].get_parameter(tensor).detach(), trained)


@pytest.mark.parametrize("dim", [None, 0, 1])
@pytest.mark.parametrize("layer", ["Linear", "Conv2d", "LSTM"])
@pytest.mark.parametrize("computation", ["nn.utils.weight_norm", "parametrizations.weight_norm"])
def test_weight_norm_over_any_dimension_keeps_pruned_weights_at_zero(
    computation: str, layer: str, dim: int | None
) -> None:
    make, tensor = WRAPPED_LAYERS[layer]
    wrap: Any = PRUNABLE_COMPUTATIONS[computation][0]
    network = in_a_network(make())
    wrap(network["layer"], tensor, dim=dim)
    name = f"layer.{tensor}"
    kept = torch.rand(effective(network["layer"], tensor).shape) < 0.5
    kept[0], kept[:, 1], kept[1, 0] = False, False, True  # a whole row and a whole column are empty

    check_computed(network, tensor, Mask({name: kept}, network))


@pytest.mark.parametrize("computation", ["nn.utils.weight_norm", "parametrizations.weight_norm"])
@pytest.mark.parametrize("dim", [None, 0, 1])
def test_weight_norm_of_which_nothing_is_kept_is_zero(computation: str, dim: int | None) -> None:
    wrap: Any = PRUNABLE_COMPUTATIONS[computation][0]
    network = in_a_network(nn.Linear(3, 5))
    wrap(network["layer"], "weight", dim=dim)

    check_computed(network, "weight", Mask({"layer.weight": torch.zeros(5, 3, dtype=torch.bool)}, network))


def check_computed(network: nn.ModuleDict, tensor: str, mask: Mask) -> None:
    """Check the effective weights of a layer after a mask is applied, and after three steps of training."""
    layer, kept = network["layer"], mask[f"layer.{tensor}"]
    before = effective(layer, tensor)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    mask.apply_(network)

    applied = effective(layer, tensor)
    torch.testing.assert_close(applied, before * kept)
    assert not applied[~kept].any()
    mask.attach(optimizer)
    torch.testing.assert_close(effective(layer, tensor), before * kept)
    train(network, optimizer)
    trained = effective(layer, tensor)
    assert trained.isfinite().all()
    assert not trained[~kept].any()
    assert bool((trained != applied)[kept & (before != 0)].all())


def effective(layer: nn.Module, tensor: str) -> Tensor:
    """Return the tensor that a layer computes with: hooks compute it before a forward pass."""
    for hook in layer._forward_pre_hooks.values():
        hook(layer, ())
    found: Tensor = getattr(layer, tensor)
    return found.detach().clone()


@pytest.mark.parametrize("layer", ["Linear", "Conv2d", "MultiheadAttention"])
@pytest.mark.parametrize("computation", REFUSED_COMPUTATIONS)
def test_weights_that_cannot_be_masked_are_refused_by_name_with_the_way_out(computation: str, layer: str) -> None:
    make, tensor = WRAPPED_LAYERS[layer]
    network = in_a_network(make())
    REFUSED_COMPUTATIONS[computation](network["layer"], tensor)

    with pytest.raises(UsageError, match=f"'layer.{tensor}' is computed by ") as caught:
        prunable(network)

    assert_counts(network, prunable(network, prunable_layers="head"), {"head.weight"})
    call = str(caught.value).partition("Remove that before pruning: ")[2].partition(";")[0]
    exec(call, {"torch": torch, "model": network})
    assert_counts(network, prunable(network), expected(network))


@pytest.mark.parametrize("layer", ["LSTM", "Embedding", "Bilinear"])
@pytest.mark.parametrize("computation", REFUSED_COMPUTATIONS)
def test_weights_that_cannot_be_masked_matter_only_where_they_are_asked_for(computation: str, layer: str) -> None:
    make, tensor = WRAPPED_LAYERS[layer]
    network = in_a_network(make())
    sizes = {name: size for name, _, last, size in tensors(network) if "bias" not in last}
    REFUSED_COMPUTATIONS[computation](network["layer"], tensor)

    with pytest.warns(UnprunedWarning, match=f"^layer: {sum(sizes.values()) - 2} of {sum(sizes.values())} weights"):
        mask = prune(network, "magnitude", density=0.5)

    assert (set(mask), mask.total) == ({"head.weight"}, 2)
    with pytest.raises(UsageError, match=f"'layer.{tensor}' is computed by "):
        prunable(network, prunable_layers=layer)


def test_what_torch_pruned_stays_pruned_and_counts_in_the_level() -> None:
    network = in_a_network(nn.Linear(6, 5))
    nn.utils.prune.random_unstructured(network["layer"], "weight", amount=11)
    kept_by_torch = network["layer"].get_buffer("weight_mask").bool()

    mask = prune(network, "magnitude", density=0.5)

    assert (mask.total, mask.kept) == (32, 16)
    assert not (mask["layer.weight"] & ~kept_by_torch).any()
