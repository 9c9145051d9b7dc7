"""The weights of each type of layer that are pruned and counted, by the rule of docs/prunable.md."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from foundations.errors import UsageError
from pruning.prune import prune
from pruning.weights.left_out import UnprunedWarning
from tests.pruning import layer_table
from tests.pruning.layer_types import LAZY_LAYERS, OTHER_LAYERS, TORCH_LAYERS, classes_of_torch, in_a_network
from tests.pruning.prunable_rule import NORMALIZATIONS, assert_counts, expected, prunable, tensors, train

LAYERS = {**TORCH_LAYERS, **OTHER_LAYERS}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_every_class_of_torch_with_parameters_is_in_the_table() -> None:
    """A class that is not in the table is made of twos; it must have no parameters, or it belongs into the table."""
    special: dict[str, tuple[Any, ...]] = {
        "FractionalMaxPool2d": (2, 2),
        "FractionalMaxPool3d": (2, 2),
        "Unflatten": (1, (2, 1)),
    }
    for name, kind in classes_of_torch():
        if name in TORCH_LAYERS or name in LAZY_LAYERS:
            continue
        required = [
            parameter
            for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        try:
            made = kind(*special.get(name, [2] * len(required)))
        except Exception as error:
            pytest.fail(f"torch.nn.{name} is new: add it to tests/pruning/layer_types.py ({error})")
        assert not list(made.parameters()), f"torch.nn.{name} has parameters: add it to tests/pruning/layer_types.py"


@pytest.mark.parametrize("name", TORCH_LAYERS)
def test_the_table_holds_layers_of_the_classes_that_it_names(name: str) -> None:
    layer = TORCH_LAYERS[name]()

    assert type(layer) is getattr(nn, name)
    assert list(layer.parameters())


@pytest.mark.parametrize("name", LAYERS)
def test_by_default_convolutions_linear_layers_and_attention_are_pruned(name: str) -> None:
    network = in_a_network(LAYERS[name]())

    assert_counts(network, prunable(network), expected(network))


@pytest.mark.parametrize("name", LAYERS)
def test_asked_for_by_type_all_tensors_but_biases_are_pruned(name: str) -> None:
    network = in_a_network(LAYERS[name]())
    kind = type(network["layer"])
    names = expected(network, kind=kind)

    assert {tensor for tensor in names if tensor.startswith("layer.")}
    assert_counts(network, prunable(network, prunable_layers=(kind,)), names)
    assert_counts(network, prunable(network, prunable_layers=kind.__name__), names)
    assert_counts(network, prunable(network, prunable_layers=("all", kind.__name__)), names | expected(network))


@pytest.mark.parametrize("name", LAYERS)
def test_asked_for_by_name_all_tensors_inside_but_biases_are_pruned(name: str) -> None:
    network = in_a_network(LAYERS[name]())
    names = {tensor for tensor, _, last, _ in tensors(network) if tensor.startswith("layer.") and "bias" not in last}

    assert_counts(network, prunable(network, prunable_layers="layer"), names)
    assert_counts(network, prunable(network, prunable_layers="layer.*"), names)
    one = min(names)
    assert_counts(network, prunable(network, prunable_layers=one), {one})


@pytest.mark.parametrize("name", LAYERS)
def test_biases_are_pruned_on_request_in_the_layers_that_are_pruned(name: str) -> None:
    network = in_a_network(LAYERS[name]())
    kind = type(network["layer"])

    assert_counts(network, prunable(network, prune_bias=True), expected(network, biases=True))
    by_type = prunable(network, prunable_layers=(kind,), prune_bias=True)
    assert_counts(network, by_type, expected(network, kind=kind, biases=True))


@pytest.mark.parametrize("name", LAYERS)
def test_scales_of_batchnorm_are_pruned_on_request(name: str) -> None:
    network = in_a_network(LAYERS[name]())

    assert_counts(network, prunable(network, prune_batchnorm=True), expected(network, norms=True))
    both = prunable(network, prune_batchnorm=True, prune_bias=True)
    assert_counts(network, both, expected(network, norms=True, biases=True))


@pytest.mark.parametrize("name", LAYERS)
def test_weights_that_are_left_out_are_named_and_counted(name: str) -> None:
    network = in_a_network(LAYERS[name]())
    pruned = expected(network)
    weights = {
        tensor: (layer, size)
        for tensor, layer, last, size in tensors(network)
        if tensor in pruned or not ("bias" in last or isinstance(layer, NORMALIZATIONS))
    }
    left_out = {tensor: pair for tensor, pair in weights.items() if tensor not in pruned}

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prune(network, "magnitude", density=0.5)
    messages = [str(warning.message) for warning in caught if warning.category is UnprunedWarning]

    if not left_out:
        assert messages == []
        return
    count, total = (sum(size for _, size in group.values()) for group in (left_out, weights))
    layers = list(dict.fromkeys(tensor.rpartition(".")[0] for tensor in left_out))
    types = list(dict.fromkeys(type(layer).__name__ for layer, _ in left_out.values()))
    assert messages == [
        f"{', '.join(layers)}: {count:,} of {total:,} weights are not prunable by default; ask for them with "
        f"prunable_layers='all,{','.join(types)}'."
    ]
    suggested = prunable(network, prunable_layers=f"all,{','.join(types)}")
    assert set(suggested) == set(weights)


@pytest.mark.parametrize("name", LAYERS)
def test_pruned_weights_stay_zero_in_training(name: str) -> None:
    network = in_a_network(LAYERS[name]())
    before = {tensor: parameter.detach().clone() for tensor, parameter in network.named_parameters()}
    mask = prunable(network, prunable_layers=("head", "layer"), prune_bias=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    mask.apply_(network)
    for tensor, parameter in network.named_parameters():
        assert torch.equal(parameter, before[tensor] * mask[tensor])
    mask.attach(optimizer)
    train(network, optimizer)

    for tensor, parameter in network.named_parameters():
        assert not parameter[~mask[tensor]].any()
        assert not optimizer.state[parameter]["momentum_buffer"][~mask[tensor]].any()
        assert (parameter[mask[tensor]] != before[tensor][mask[tensor]]).all()


@pytest.mark.parametrize("name", LAZY_LAYERS)
def test_a_layer_without_shape_is_refused_until_it_has_run(name: str) -> None:
    make, shape = LAZY_LAYERS[name]
    network = in_a_network(make())
    assert isinstance(network["layer"], getattr(nn, name))
    assert any(is_lazy(parameter) for parameter in network.parameters())

    with pytest.raises(UsageError, match="has no shape yet: run the model once"):
        prunable(network)
    with pytest.raises(UsageError, match="has no shape yet: run the model once"):
        prunable(network, prune_batchnorm=True, prune_bias=True)
    network["layer"](torch.randn(shape))

    assert_counts(network, prunable(network), expected(network))
    everything = prunable(network, prune_batchnorm=True, prune_bias=True)
    assert_counts(network, everything, expected(network, norms=True, biases=True))


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "Embedding", "Bilinear", "a layer of your own"])
def test_a_tied_weight_counts_once_under_its_first_name(name: str) -> None:
    first, second = LAYERS[name](), LAYERS[name]()
    for tensor in list(second._parameters):
        second._parameters[tensor] = first._parameters[tensor]
    network = nn.ModuleDict({"z": first, "a": second, "same": nn.ModuleDict({"b": first})})
    weights = {f"a.{tensor}" for tensor in first._parameters if "bias" not in tensor}

    mask = prunable(network, prunable_layers=(type(first),))

    assert set(mask) == weights
    assert mask.total == sum(first.get_parameter(tensor.removeprefix("a.")).numel() for tensor in weights)


@pytest.mark.parametrize("asked", ["all", "all,Embedding"])
def test_an_embedding_that_is_tied_to_the_output_layer_counts_once(asked: str) -> None:
    network = nn.ModuleDict({"embed": nn.Embedding(7, 4), "out": nn.Linear(4, 7)})
    network["out"].weight = network["embed"].weight

    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprunedWarning)  # it is pruned, so nothing is left out
        mask = prune(network, "magnitude", density=0.5, prunable_layers=asked)

    assert list(mask) == [{"all": "out.weight", "all,Embedding": "embed.weight"}[asked]]
    assert (mask.total, mask.kept) == (28, 14)


def test_the_page_says_what_the_code_does() -> None:
    page = layer_table.PAGE.read_text()

    assert layer_table.page_with(page, layer_table.table()) == page, "run python -m tests.pruning.layer_table --write"
