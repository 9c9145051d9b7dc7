from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from foundations.errors import UsageError
from pruning.masks.reinitialization import reinitialize_
from tests.pruning.nets import TinyNet
from tests.pruning.test_wrapper import moved, train, wrap


class OwnLayer(nn.Module):
    """A parameter and no method that draws it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.inner = nn.Linear(8, 8)


class Resettable(OwnLayer):
    def reset_parameters(self) -> None:
        nn.init.uniform_(self.scale)


class ResetByParent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = OwnLayer()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.layer.scale)


class NewTensors(nn.Module):
    """A layer that puts a new parameter in place of the old one."""

    def __init__(self) -> None:
        super().__init__()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("seen", torch.zeros(4))


class OwnNorm(nn.Module):
    running_mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))


class Half(nn.Module):
    """A method that draws one parameter of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))

    def reset_parameters(self) -> None:
        nn.init.normal_(self.first)


class Failing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def reset_parameters(self, bound: float) -> None:
        nn.init.uniform_(self.weight, -bound, bound)


def old_style_pruned() -> nn.Module:
    layer = nn.Linear(8, 8)
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "attention of other widths": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1),
    "recurrent": lambda: nn.LSTM(8, 8, 2),
    "norms": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.LayerNorm(8)),
    "activations": lambda: nn.Sequential(nn.Linear(8, 8), nn.PReLU(), nn.Embedding(5, 8, padding_idx=0)),
    "own method": Resettable,
    "method of the parent": ResetByParent,
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(8, 8)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Linear(8, 8)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(8, 8)),
    "older weight norm": lambda: weight_norm(nn.Conv2d(3, 8, 3)),
    "older spectral norm": lambda: spectral_norm(nn.Linear(8, 8)),
    "torch's prune": old_style_pruned,
    "new tensors": NewTensors,
    "data parallel": lambda: nn.DataParallel(TinyNet()),
    "resnet": lambda: torchvision.models.resnet18(num_classes=10),
}


def changed(network: nn.Module) -> nn.Module:
    """Return the network with every parameter at a value that no initialization has."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7.25)
        for name, buffer in network.named_buffers():
            if "running" in name or "seen" in name:
                buffer.fill_(3.0)
    return network


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_every_parameter_is_drawn_again_in_place(make: Callable[[], nn.Module]) -> None:
    network = changed(make())
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    reinitialize_(network)
    assert dict(network.named_parameters()).keys() == parameters.keys()
    for name, parameter in network.named_parameters():
        assert parameter is parameters[name]
        assert torch.isfinite(parameter).all(), name
        assert not (parameter == 7.25).any(), name
    for name, buffer in network.named_buffers():
        assert buffer is buffers[name] or "parametrizations" in name
        assert ("running" not in name and "seen" not in name) or not (buffer == 3.0).any()


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm])
def test_a_weight_under_weight_norm_is_the_one_that_its_layer_draws(norm: Callable[[nn.Module], nn.Module]) -> None:
    network, plain = changed(norm(nn.Linear(8, 6))), nn.Linear(8, 6)
    for each in (network, plain):
        torch.manual_seed(3)
        reinitialize_(each)
    inputs = torch.randn(5, 8)
    torch.testing.assert_close(network(inputs), plain(inputs))


def test_a_parent_sets_what_it_sets_when_it_is_constructed() -> None:
    network = nn.MultiheadAttention(8, 2)
    nn.init.ones_(network.out_proj.bias)
    reinitialize_(network)
    assert not network.out_proj.bias.any()
    assert network.in_proj_weight.abs().max() <= math.sqrt(6 / (8 + 24))


def test_layers_that_only_have_reset_parameters_are_drawn_in_order() -> None:
    network, other = TinyNet(), TinyNet(seed=4)
    torch.manual_seed(1)
    reinitialize_(network)
    torch.manual_seed(1)
    for module in other.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_tied_weights_stay_tied() -> None:
    embedding, output = nn.Embedding(6, 8), nn.Linear(8, 6, bias=False)
    output.weight = embedding.weight
    network = changed(nn.Sequential(embedding, output))
    reinitialize_(network)
    assert output.weight is embedding.weight
    assert not (output.weight == 7.25).any()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: nn.Sequential(nn.BatchNorm1d(8), OwnLayer()), r"1\.scale"),
        (lambda: nn.Sequential(nn.Linear(8, 8), Half()), r"1\.second"),
        (lambda: nn.Sequential(nn.Linear(8, 8), Failing()), r"Failing.*1\.reset_parameters\(\)"),
        (lambda: nn.ParameterList([torch.ones(2) for _ in range(6)]), r"6 parameters .*: 0, 1, 2, 3, \.\.\."),
        (
            lambda: torchvision.models.VisionTransformer(
                image_size=8, patch_size=4, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4
            ),
            r"2 parameters .*: class_token, encoder\.pos_embedding",
        ),
    ],
    ids=["own layer", "half", "failing", "list", "vision transformer"],
)
def test_what_cannot_be_drawn_is_named_and_nothing_is_changed(make: Callable[[], nn.Module], names: str) -> None:
    network = changed(make())
    before, tensors = copy.deepcopy(network.state_dict()), dict(network.named_parameters())
    with pytest.raises(UsageError, match=names):
        reinitialize_(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter is tensors[name] for name, parameter in network.named_parameters())


def test_training_goes_on_after_it() -> None:
    wrapper = wrap(NETWORKS["encoder"]().eval(), prune_rate=0.5)
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        wrapper(torch.randn(3, 2, 8)).square().sum().backward()
        optimizer.step()
        wrapper.prune_weights()
        wrapper.reinitialize(randomly=True)
        assert moved(wrapper) == 0
    before = copy.deepcopy(wrapper.model.state_dict())
    wrapper(torch.randn(3, 2, 8)).square().sum().backward()
    optimizer.step()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in wrapper.model.state_dict().items())


def test_buffers_that_no_module_resets_go_back_to_the_stored_ones() -> None:
    norm = OwnNorm()
    wrapper = wrap(nn.Sequential(nn.Linear(8, 8), norm))
    norm.running_mean.fill_(5.0)
    wrapper.reinitialize(randomly=True)
    assert not norm.running_mean.any()


def test_a_wrapper_that_cannot_reinitialize_is_as_before() -> None:
    norm = OwnNorm()
    wrapper = wrap(nn.Sequential(OwnLayer(), norm), prune_rate=0.5)
    wrapper.prune_weights()
    norm.running_mean.fill_(5.0)
    before = copy.deepcopy(wrapper.state_dict())
    with pytest.raises(UsageError, match=r"0\.scale"):
        wrapper.reinitialize(randomly=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in wrapper.state_dict().items())


def test_a_network_on_no_device_is_left_there() -> None:
    network = nn.Linear(3, 2, device="meta")
    reinitialize_(network)
    assert network.weight.is_meta


def test_the_wrapper_trains_after_random_reinitialization() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    wrapper.prune_weights()
    wrapper.reinitialize(randomly=True)
    train(wrapper)
    assert moved(wrapper) == 0
