from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask
from pruning.paths.connectivity import channel_mask, effective
from pruning.paths.graph import trace
from pruning.prune import prune
from tests.pruning.nets import LeNet, ResNet, TinyNet


class Wiring(nn.Module):
    """Grouped, transposed and depthwise convolutions, a concatenation, sums, a padded shortcut, a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.up = nn.ConvTranspose2d(20, 6, 2, stride=2, groups=2)
        self.gate = nn.Conv2d(6, 6, 1)
        self.wider = nn.Conv2d(6, 10, 3, padding=1)
        self.fc = nn.Linear(10 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        y = self.depthwise(F.relu(self.grouped(x)))
        x = self.up(torch.cat([x, y], 1))
        x = x + self.gate(x)
        x = F.pad(x, (0, 0, 0, 0, 1, 3)) + self.wider(x)
        return self.fc(F.adaptive_avg_pool2d(x, 2).flatten(1))


def test_a_trace_finds_the_layers_in_the_order_in_which_they_run() -> None:
    layers = [node.layer for node in trace(ResNet(8, 4), (3, 32, 32)).layers]
    assert layers[:4] == ["conv.weight", "blocks.0.conv1.weight", "blocks.0.conv2.weight", "blocks.1.conv1.weight"]
    assert layers[-1] == "fc.weight"
    assert len(layers) == 10


def test_a_trace_leaves_the_model_as_it_was() -> None:
    model = TinyNet()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.block1.eval()
    trace(model, (2, 6, 6))
    assert model.training
    assert not model.block1.bn1.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("model", "shape"), [(Wiring(), (3, 12, 12)), (TinyNet(), (2, 6, 6)), (LeNet([6, 5], 3, 8), (8,))]
)
@pytest.mark.parametrize("density", [0.05, 0.15, 0.4])
def test_exactly_the_effective_weights_have_flow_through_them(
    model: nn.Module, shape: tuple[int, ...], density: float
) -> None:
    """A weight is on a path of kept weights exactly if it has synaptic flow in the network of ones without biases."""
    mask = prune(model, "random", density=density, seed=2)
    found = effective(trace(model, shape), mask)
    assert flows(model, mask, shape) == found


def flows(model: nn.Module, mask: Mask, shape: tuple[int, ...]) -> Mask:
    network = type(model)() if not isinstance(model, LeNet) else LeNet([6, 5], 3, 8)
    network.double().eval()
    for name, parameter in network.named_parameters():
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        if name in mask:
            with torch.no_grad():
                parameter.copy_(mask[name])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    network(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if name in mask}
    return Mask({name: mask[name] & (grad != 0) for name, grad in gradients.items()})


def test_effective_weights_of_a_chain_are_those_on_its_paths() -> None:
    """Loops over all paths of a small fully connected network."""
    model = LeNet([4, 3], 2, 5)
    mask = prune(model, "random", density=0.5, seed=2)
    first, second, third = (mask[name] for name in ("fc_layers.0.weight", "fc_layers.1.weight", "fc.weight"))
    on_path = {name: torch.zeros_like(tensor) for name, tensor in mask.items()}
    for i, h, g, o in itertools.product(range(5), range(4), range(3), range(2)):
        if first[h, i] and second[g, h] and third[o, g]:
            on_path["fc_layers.0.weight"][h, i] = on_path["fc_layers.1.weight"][g, h] = on_path["fc.weight"][o, g] = (
                True
            )
    assert effective(trace(model, (5,)), mask) == Mask(on_path)
    assert 0 < Mask(on_path).kept < mask.kept


def test_an_identity_shortcut_carries_a_path_past_an_empty_block() -> None:
    model = TinyNet()
    ones = Mask.ones(model)
    mask = Mask({name: torch.zeros_like(t) if name.startswith("block1") else t for name, t in ones.items()})
    found = effective(trace(model, (2, 6, 6)), mask)
    assert found == mask


def test_units_without_weights_lose_their_bias_and_batchnorm() -> None:
    model = TinyNet()
    tensors = dict(Mask.ones(model))
    tensors["conv.weight"] = tensors["conv.weight"].clone()
    tensors["conv.weight"][1] = False
    channels = channel_mask(trace(model, (2, 6, 6)), Mask(tensors))
    silent = torch.tensor([True, False, True, True])
    assert torch.equal(channels["conv.bias"], silent)
    assert torch.equal(channels["bn.weight"], silent)
    assert torch.equal(channels["bn.bias"], silent)
    assert channels["block1.bn1.weight"].all()
    channels.apply_(model)
    assert model.bn.weight[1] == 0


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x, x, x)[0]


def test_an_operation_that_mixes_units_is_named() -> None:
    with pytest.raises(UsageError, match="cannot be followed through"):
        trace(Attention(), (3, 8))
