"""Ways of training in which masks cannot reach the weights: each is refused in a sentence, before a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from foundations.errors import UsageError
from open_prune import accelerate_sparse, lightning_callback


@pytest.mark.parametrize("kind", ["DEEPSPEED", "MEGATRON_LM"])
def test_accelerate_with_weights_of_its_own_is_refused(kind: str) -> None:
    pytest.importorskip("accelerate")
    from accelerate.utils import DistributedType

    accelerator = SimpleNamespace(
        distributed_type=getattr(DistributedType, kind), register_for_checkpointing=lambda _: None
    )
    model = nn.Linear(4, 2)

    with pytest.raises(UsageError, match=f"^accelerator: {kind} holds the weights itself, .* use DDP or FSDP2"):
        accelerate_sparse(accelerator, torch.optim.SGD(model.parameters(), 0.1), model, "rigl", density=0.5, end=10)
    assert not hasattr(model, "parametrizations")


@pytest.mark.parametrize("kind", ["FSDPStrategy", "DeepSpeedStrategy"])
def test_lightning_strategies_that_flatten_weights_are_refused(kind: str) -> None:
    pytest.importorskip("lightning")
    callback: Any = lightning_callback("rigl", density=0.5)
    trainer = SimpleNamespace(strategy=type(kind, (), {})())

    with pytest.raises(UsageError, match=f"^strategy: {kind} flattens weights, .* use ModelParallelStrategy"):
        callback.on_train_start(trainer, nn.Linear(4, 2))
    assert callback.training is None
