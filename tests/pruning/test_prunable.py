from __future__ import annotations

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from pruning.mask import Mask
from pruning.prunable import prunable_weights
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
