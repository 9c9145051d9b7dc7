import torch
from torch import Tensor, nn

from pruning.weights.network_size import multiply_adds


def test_a_grouped_convolution_multiplies_within_its_groups() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2))

    assert multiply_adds(model, (4, 5, 5)) == 5 * 5 * 8 * 2 * 9


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    layer = nn.Linear(6, 6)

    assert multiply_adds(nn.Sequential(nn.Flatten(), layer, layer), (6, 1, 1)) == 2 * 6 * 6


def test_only_convolutional_and_linear_layers_count() -> None:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 5, 3)
            self.conv = nn.Conv2d(5, 2, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(self.up(x))
            return x @ x.transpose(2, 3)

    assert multiply_adds(Products(), (3, 4, 4)) == 4 * 4 * 3 * 5 * 9 + 6 * 6 * 2 * 5


def test_a_layer_alone_is_counted() -> None:
    assert multiply_adds(nn.Conv2d(3, 2, 1), (3, 4, 4)) == 4 * 4 * 2 * 3


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    multiply_adds(model, (3, 4, 4))

    assert model.training
    assert model[0].weight.device.type == "cpu"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
