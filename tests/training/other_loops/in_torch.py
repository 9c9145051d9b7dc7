"""Plain loops with DDP, FSDP2 and torch.compile in two processes, compared with a loop in one process."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.distributed as dist
from loop_checks import assert_pruned_are_zero, weights_of  # type: ignore[import-not-found]
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from open_prune import Mask, prune, sparse

CASES: tuple[tuple[str | None, dict[str, Any]], ...] = (
    (None, {}),
    ("rigl", {"mask_update_frequency": 2}),
    ("rigl", {"mask_update_frequency": 2, "grow_init": "grad_scale"}),
    ("set", {"mask_update_frequency": 2, "grow_init": "initial_dist"}),
    ("rigl,bias_masks", {"mask_update_frequency": 2}),
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(13, 21), nn.Tanh(), nn.Linear(21, 1), nn.Tanh(), nn.Linear(1, 5))


def wrapped(kind: str, model: nn.Sequential) -> nn.Module:
    if "ddp" in kind:
        model = DistributedDataParallel(model)  # type: ignore[assignment]
    elif "fsdp" in kind:
        for layer in (model[0], model[2], model):  # the second layer has a single row: one process has none of it
            fully_shard(layer)
    return torch.compile(model, backend="aot_eager") if "compiled" in kind else model  # type: ignore[return-value]


def train(kind: str, technique: str | None, options: dict[str, Any]) -> tuple[dict[str, Tensor], Mask]:
    inner = network()
    mask = prune(inner, "random", density=0.4, allocation="erk", seed=2)
    model = wrapped(kind, inner)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    training = sparse(optimizer, model, technique, mask=mask, end=8, **options)
    parts = 1 if kind == "alone" else dist.get_world_size()
    for number in range(8):
        drawn = torch.Generator().manual_seed(number)
        inputs, targets = torch.randn(8, 13, generator=drawn), torch.randint(5, (8,), generator=drawn)
        part = slice(None) if parts == 1 else slice(dist.get_rank() * 4, dist.get_rank() * 4 + 4)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs[part]), targets[part]).backward()
        optimizer.step()
        assert_pruned_are_zero(model, training.mask)
    assert training.mask is not None
    return weights_of(model), training.mask


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for technique, options in CASES:
        expected, mask = train("alone", technique, options)
        for kind in sys.argv[1:]:
            found, its_mask = train(kind, technique, options)
            assert its_mask == mask, (kind, technique)
            for name, weight in expected.items():
                torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=1e-5)
    dist.barrier()  # else a process that ends first can abort
    dist.destroy_process_group()
