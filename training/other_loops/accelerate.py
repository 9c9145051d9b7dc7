"""Techniques and masks in a loop of `accelerate`: `accelerate_sparse(accelerator, optimizer, model, "rigl", ...)`.

accelerate wraps the optimizer, and saves and loads whatever is registered with it.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from foundations.errors import UsageError
from training.other_loops.planned_training import PlannedTraining
from training.sparse import SparseTraining

_OTHERS = ("DEEPSPEED", "MEGATRON_LM")
"""Kinds of training in which the weights and their optimizer are not torch's."""


def accelerate_sparse(
    accelerator: Any, optimizer: Optimizer, model: nn.Module, technique: str | None = None, **arguments: Any
) -> SparseTraining:
    """Let techniques act on a training of accelerate, or keep a mask in it: the arguments are those of `sparse`.

        model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
        training = accelerate_sparse(accelerator, optimizer, model, "rigl", density=0.1, end=1000)

    Call it after `accelerator.prepare`, and before the first step. `accelerator.save_state` and `load_state` save and
    load the training too. A step is one of the optimizer: accumulated gradients are one, in each process.
    technique: None keeps the mask of `mask=` alone; then `end` may be left out.

    Raises: UsageError as `sparse`; for an optimizer that is not prepared; and where accelerate runs DeepSpeed or
    Megatron-LM, which hold the weights themselves.
    """
    if not hasattr(accelerator, "register_for_checkpointing"):
        raise UsageError(f"it must be an Accelerator, and not a {type(accelerator).__name__}.", "accelerator")
    kind = accelerator.distributed_type.name
    if kind in _OTHERS:
        raise UsageError(
            f"{kind} holds the weights itself, and masks cannot reach them; use DDP or FSDP2.", "accelerator"
        )
    if not isinstance(optimizer, Optimizer) or not hasattr(optimizer, "step_was_skipped"):
        raise UsageError("call accelerator.prepare(model, optimizer) before, and pass its results.", "optimizer")
    training = PlannedTraining(technique, arguments).start(optimizer, model, None)
    wrapped: Any = optimizer
    if wrapped.scaler is not None:
        wrapped.__setstate__({})  # it has kept the former `step` of the optimizer, and now takes the present one
    accelerator.register_for_checkpointing(training)
    return training
