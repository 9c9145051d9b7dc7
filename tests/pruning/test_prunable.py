from __future__ import annotations

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from foundations.inputs import Inputs
from models.build import construct
from models.hparams import ModelHparams
from pruning.hparams import PruningHparams
from pruning.masks.mask import Mask
from pruning.weights.prunable import classifier_layers, prunable_weights, weights_to_prune
from tests.pruning.nets import TinyNet


def test_weights_of_convolutions_and_linear_layers_are_counted_and_nothing_else() -> None:
    assert list(prunable_weights(TinyNet())) == [
        "block1.conv1.weight",
        "block1.conv2.weight",
        "block2.conv1.weight",
        "block2.conv2.weight",
        "block2.shortcut.0.weight",
        "conv.weight",
        "fc.weight",
    ]


def test_the_projections_of_attention_are_counted_and_embeddings_and_norms_are_not() -> None:
    model = nn.ModuleDict({"words": nn.Embedding(5, 8), "layer": nn.TransformerEncoderLayer(8, 2, 16)})
    assert list(prunable_weights(model)) == [
        "layer.linear1.weight",
        "layer.linear2.weight",
        "layer.self_attn.in_proj_weight",
        "layer.self_attn.out_proj.weight",
    ]


def test_a_shared_weight_counts_once() -> None:
    model = nn.ModuleDict({"b": nn.Linear(3, 3), "a": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    assert list(prunable_weights(model)) == ["a.weight"]
    assert Mask.ones(model).total == 9


def test_layer_types_can_be_chosen() -> None:
    assert list(prunable_weights(TinyNet(), (nn.Linear,))) == ["fc.weight"]


def test_a_model_without_prunable_weights_is_an_error_that_says_what_would_be() -> None:
    with pytest.raises(UsageError, match="BatchNorm2d has no prunable weights: it has no layer of type Conv1d"):
        prunable_weights(nn.BatchNorm2d(3))


def test_a_lazy_layer_asks_to_be_run_first() -> None:
    with pytest.raises(UsageError, match="'weight' has no shape yet"):
        prunable_weights(nn.LazyLinear(3))


def test_a_layer_may_be_the_model() -> None:
    assert Mask.ones(nn.Linear(2, 3))["weight"].shape == torch.Size([3, 2])


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("cifar_resnet_8_4", ["fc"]),
        ("mnist_lenet_8_6", ["fc"]),
        ("tinyimagenet_vgg_11", ["classifier.0", "classifier.3", "classifier.6"]),
        ("torchvision_squeezenet1_1", ["classifier.1"]),
    ],
)
def test_the_classifier_is_the_output_layer_and_the_linear_ones_that_stand_with_it(
    name: str, layers: list[str]
) -> None:
    with torch.device("meta"):
        model = construct(ModelHparams(model_name=name), 10, Inputs((3, 64, 64)))

    assert classifier_layers(model) == layers
    counted = weights_to_prune(model, PruningHparams(prunable_layers="all_but_classifier"))
    assert prunable_weights(model).keys() - counted.keys() == {f"{layer}.weight" for layer in layers}


def test_a_network_that_is_one_container_is_not_its_own_classifier() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))

    assert classifier_layers(nn.ModuleDict({"net": layers})) == ["net.3"]
    assert classifier_layers(layers) == ["3"]


@pytest.mark.parametrize("model", [nn.Linear(2, 3), nn.Sequential(nn.Flatten(), nn.Linear(2, 3))])
def test_a_network_of_one_layer_has_nothing_besides_its_classifier(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="prunable_layers: this network has no layers besides its classifier"):
        weights_to_prune(model, PruningHparams(prunable_layers="all_but_classifier"))
