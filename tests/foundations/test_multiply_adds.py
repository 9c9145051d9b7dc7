from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from foundations.multiply_adds import uses_of_parameters


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "resnext50_32x4d", "densenet121"])
def test_multiply_adds_of_weights_are_those_that_torchvision_publishes(name: str) -> None:
    with torch.device("meta"):
        model = models.get_model(name, weights=None)
    published = models.get_model_weights(name).DEFAULT.meta["_ops"]

    uses = uses_of_parameters(model, (3, 224, 224))

    weights = {name: weight.numel() for name, weight in model.named_parameters() if weight.dim() > 1}
    assert round(sum(count * uses[name] for name, count in weights.items()) / 1e9, 3) == published


def test_every_kind_of_layer_is_counted_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, stride=2, groups=2),  # 6 x 6 -> 3 x 3
        nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 5, 3),  # 3 x 3 -> 5 x 5
        nn.Flatten(2),
        nn.Linear(25, 7),  # of each of 5 rows
        nn.LayerNorm(7),
    )

    assert uses_of_parameters(model, (4, 6, 6)) == {
        "0.weight": 9,
        "0.bias": 9,
        "1.weight": 9,
        "1.bias": 9,
        "2.weight": 9,
        "2.bias": 25,
        "4.weight": 5,
        "4.bias": 5,
        "5.weight": 5,
        "5.bias": 5,
    }


def test_attention_uses_its_weights_once_for_each_token() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.attention(x, x, x)[0]
            return found

    model = Attention()
    uses = uses_of_parameters(model, (5, 8))

    assert uses == {name: 5 for name, _ in model.named_parameters()}


def test_a_layer_under_two_names_has_the_first_and_counts_twice() -> None:
    layer = nn.Linear(6, 6)
    model = nn.Sequential()
    model.add_module("b", layer)
    model.add_module("a", layer)

    assert uses_of_parameters(model, (6,)) == {"a.weight": 2, "a.bias": 2}


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout())
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    uses_of_parameters(model, (3, 4, 4))

    assert [module.training for module in model] == [True, True, False]
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
