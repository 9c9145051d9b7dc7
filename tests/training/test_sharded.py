"""Masks and techniques on sharded weights (FSDP2), here in one process; tests/training/other_loops has two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor

from foundations.errors import UsageError
from open_prune import Mask, PruningWrapper, prune, sparse
from tests.training.test_sparse import batch, network

END = 6


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def sharded(mesh: DeviceMesh) -> nn.Sequential:
    model = network()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def kept() -> Mask:
    return prune(network(), "random", density=0.3, allocation="erk", seed=1)


def full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def whole(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: full(weight) for name, weight in model.named_parameters()}


def train(model: nn.Module, technique: str | None, **options: Any) -> Mask:
    """Train, check that pruned weights and their moments are zero after every step, and return the last mask."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    model(batch(0)[0])  # leaves the outermost module with whole parameters
    training = sparse(optimizer, model, technique, mask=kept(), end=END, **options)
    for number in range(END):
        optimizer.zero_grad()
        inputs, targets = batch(number)
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        assert training.mask is not None
        for name, keeps in training.mask.items():
            weight = model.get_parameter(name)
            state = {} if technique == "snfs" else optimizer.state.get(weight, {})  # which moves on
            for tensor in (weight, state.get("exp_avg", weight)):
                assert not full(tensor)[~keeps].any()
    assert training.mask is not None
    return training.mask


@pytest.mark.parametrize(
    ("technique", "options"),
    [
        (None, {}),
        ("rigl", {"mask_update_frequency": 2}),
        ("rigl", {"mask_update_frequency": 2, "grow_init": "grad_sign", "grow_init_divisor": 50}),
        ("set", {"mask_update_frequency": 2, "grow_init": "initial_dist"}),
        ("itop", {"mask_update_frequency": 2, "itop_growth": "random_unfired"}),
        ("granet", {"mask_update_frequency": 2, "granet_density": 0.2}),
        ("snfs", {"mask_update_frequency": 2}),
        ("bias_masks", {}),
        ("freeze_small", {}),
    ],
)
def test_sharded_weights_train_as_whole_ones(technique: str | None, options: dict[str, Any], mesh: DeviceMesh) -> None:
    model, plain = sharded(mesh), network()

    assert train(model, technique, **options) == train(plain, technique, **options)
    expected = whole(plain)
    for name, weight in whole(model).items():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=1e-5)


def test_a_mask_is_applied_to_sharded_weights(mesh: DeviceMesh) -> None:
    model, mask = sharded(mesh), kept()

    mask.apply_(model)

    expected = network()
    mask.apply_(expected)
    assert all(torch.equal(weight, whole(expected)[name]) for name, weight in whole(model).items())


@pytest.mark.parametrize(
    ("technique", "options", "message"),
    [
        ("gmp", {"gmp_density": 0.2, "gmp_frequency": 2}, "technique: gmp needs whole weights"),
        ("rigl", {"grow_init": "random_normal"}, "grow_init: random_normal needs whole weights"),
        ("rigl,gradinit", {}, "technique: gradinit needs whole weights"),
    ],
)
def test_techniques_that_need_whole_weights_are_refused(
    technique: str, options: dict[str, Any], message: str, mesh: DeviceMesh
) -> None:
    with pytest.raises(UsageError, match=message):
        train(sharded(mesh), technique, **options)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: prune(model, "magnitude", density=0.2),
        lambda model: prune(model, "magnitude", density=0.2, mask=kept()),
        lambda model: sparse(torch.optim.SGD(model.parameters()), model, "set", density=0.2, end=3),
        lambda model: Mask.ones(model),
        lambda model: PruningWrapper(model, device="cpu"),
    ],
)
def test_scoring_sharded_weights_is_refused_with_what_to_do(use: Callable[[nn.Module], Any], mesh: DeviceMesh) -> None:
    with pytest.raises(UsageError, match=r"sharded over processes.*; prune before fully_shard, and pass the mask\."):
        use(sharded(mesh))


@pytest.mark.usefixtures("mesh")
def test_networks_whose_weights_are_flattened_are_refused() -> None:
    model = FullyShardedDataParallel(network(), device_id=torch.device("cpu"))

    with pytest.raises(UsageError, match=r"flattens weights.*use fully_shard \(FSDP2\)"):
        kept().apply_(model)
