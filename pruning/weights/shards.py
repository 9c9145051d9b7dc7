"""Weights that are sharded over processes: DTensors, as FSDP2 (`torch.distributed.fsdp.fully_shard`) makes them.

A mask is whole in every process. Zeroing weights needs no communication: each process zeroes its own part.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from foundations.errors import UsageError


def is_sharded(tensor: Tensor) -> bool:
    """Return whether this process holds a part of a tensor, which other processes complete."""
    # By name: the import of torch.distributed.tensor takes a second. A parameter's own class may be Parameter.
    return type(tensor.data).__name__ == "DTensor"


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, which shares its memory; a whole tensor itself."""
    sharded: Any = tensor
    part: Tensor = sharded.to_local() if is_sharded(tensor) else tensor
    return part


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor gathered from all processes, which must all call it; a whole tensor itself."""
    sharded: Any = tensor
    gathered: Tensor = sharded.full_tensor() if is_sharded(tensor) else tensor
    return gathered


def part_of(tensor: Tensor, weight: Tensor) -> Tensor:
    """Return the part of a whole tensor that belongs to this process's part of `weight`, on the device of that.

    tensor: of the shape of `weight`, the same in every process.
    """
    if not is_sharded(weight):
        return tensor.to(weight.device)
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = weight
    # Without a source rank, each process takes its part of its own tensor, and none sends anything.
    placed = distribute_tensor(
        tensor.to(sharded.to_local().device), sharded.device_mesh, sharded.placements, src_data_rank=None
    )
    return placed.to_local()


def refuse_sharded(name: str, weight: Tensor) -> None:
    """Check that this process holds a whole tensor. Raises: UsageError."""
    if is_sharded(weight):
        raise UsageError(
            f"'{name}' is sharded over processes (FSDP2, DTensor), and scores need whole weights; "
            "prune before fully_shard, and pass the mask."
        )


def reshard(model: nn.Module) -> None:
    """Let the modules of FSDP2 hold their sharded parameters, which are those of the optimizer.

    After a forward pass without a backward pass, the outermost module still holds whole ones.
    """
    for module in model.modules():
        if any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__):
            sharded: Any = module
            sharded.reshard()
