"""The wrapper under DataParallel, DistributedDataParallel and torch.compile, and around networks that are in them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from pruning.prune import prune
from pruning.wrapper.wrapper import PruningWrapper
from tests.pruning.nets import TinyNet
from tests.pruning.test_wrapper import moved, train, wrap


def compiled(module: nn.Module) -> nn.Module:
    found = torch.compile(module, backend="eager")
    assert isinstance(found, nn.Module)
    return found


def replica_of(wrapper: PruningWrapper) -> nn.Module:
    """Return a replica as DataParallel makes them: tensors that are computed, in place of parameters."""
    modules: list[Any] = list(wrapper.modules())
    place = {id(module): number for number, module in enumerate(modules)}
    replicas = [module._replicate_for_data_parallel() for module in modules]
    for module, replica in zip(modules, replicas, strict=True):
        for name, child in module._modules.items():
            setattr(replica, name, replicas[place[id(child)]])
        for name, parameter in module._parameters.items():
            setattr(replica, name, None if parameter is None else parameter * 1.0)
        for name, buffer in module._buffers.items():
            setattr(replica, name, buffer)
    first = replicas[0]
    assert isinstance(first, nn.Module)
    return first


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def steps(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(module(torch.randn(6, 2, 6, 6)), torch.arange(6) % 3).backward()
        optimizer.step()


def test_replicas_compute_what_the_wrapper_does_and_with_its_mask() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5).eval()
    wrapper.prune_weights()
    inputs = torch.randn(6, 2, 6, 6)
    expected = wrapper(inputs)
    torch.testing.assert_close(replica_of(wrapper)(inputs), expected)
    with torch.no_grad():
        for parameter in (wrapper.model.get_parameter(name) for name in wrapper.mask):
            parameter[parameter == 0] = 1.0
    outputs = replica_of(wrapper)(inputs)
    torch.testing.assert_close(outputs, expected)
    outputs.sum().backward()
    assert wrapper.model.get_parameter("fc.weight").grad is not None


@pytest.mark.parametrize("outside", [DataParallel, compiled])
def test_a_wrapper_inside_another_module_keeps_its_mask(outside: Callable[[nn.Module], nn.Module]) -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    module = outside(wrapper)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for _ in range(2):
        steps(module, optimizer)
        wrapper.prune_weights()
        wrapper.reinitialize()
        steps(module, optimizer)
        assert moved(wrapper) == 0
    other = wrap(TinyNet(), prune_rate=0.5)
    outside(other).load_state_dict(module.state_dict())
    assert other.mask == wrapper.mask
    assert moved(other) == 0


@pytest.mark.usefixtures("one_process")
def test_a_wrapper_in_distributed_data_parallel_keeps_its_mask() -> None:
    wrapper = wrap(TinyNet(), prune_rate=0.5)
    wrapper.prune_weights()
    module = DistributedDataParallel(wrapper)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    steps(module, optimizer)
    mask = wrapper.prune_weights()
    steps(module, optimizer)
    other = wrap(TinyNet(seed=2))
    other.load_state_dict({name.removeprefix("module."): tensor for name, tensor in module.state_dict().items()})
    assert moved(wrapper) == moved(other) == 0
    assert wrapper.mask == other.mask == mask


@pytest.mark.parametrize("inside", [DataParallel, compiled])
def test_a_network_inside_another_module_is_pruned_by_its_own_names(inside: Callable[[nn.Module], nn.Module]) -> None:
    network = TinyNet()
    module = inside(network)
    wrapper, plain = wrap(module, prune_rate=0.5), wrap(copy.deepcopy(network), prune_rate=0.5)
    for each in (wrapper, plain):
        train(each, optimizer=torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9))
        each.prune_weights()
        each.reinitialize()
        train(each)
    assert wrapper.net is module
    assert wrapper.mask == plain.mask
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(network.get_parameter(name), parameter)
        assert name not in plain.mask or not network.get_parameter(name)[~plain.mask[name]].any()
    wrapper.reinitialize(randomly=True)
    resumed = wrap(inside(TinyNet(seed=1)))
    resumed.load_state_dict(wrapper.state_dict())
    assert resumed.mask == wrapper.mask


def test_a_mask_with_the_prefixes_of_data_parallel_is_for_the_network_inside() -> None:
    network = TinyNet()
    wrapper = wrap(network)
    mask = prune(TinyNet(), "magnitude", density=0.5)
    wrapper.mask = {f"module.{name}": kept for name, kept in mask.items()}
    assert wrapper.mask == mask
    assert moved(PruningWrapper(network, 0.2, "cpu", None)) == 0
