"""Layers and tensors that a network holds without registering them take part in its scores as in its forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning.prune import prune

STRATEGIES = ["snip2", "grasp2", "fisher2", "synflow", "magnitude"]


class Holding(nn.Module):
    """A linear layer behind a hidden one, a plain tensor and a hidden dropout."""

    def __init__(self, dtype: torch.dtype, p: float, as_buffers: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 3, dtype=dtype)
        kernel, hidden = torch.randn(4, 6, dtype=dtype), nn.Linear(4, 4, dtype=dtype)
        if as_buffers:
            self.register_buffer("kernel", kernel)
            self.hidden = hidden.requires_grad_(False)
            self.dropout = nn.Dropout(p)
        else:
            self.plain: dict[str, Any] = {"layers": [(hidden, nn.Dropout(p))], "kernels": [kernel]}

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "hidden"):
            return self.layer(self.dropout(self.hidden(x)) @ self.kernel)
        ((hidden, dropout),) = self.plain["layers"]
        return self.layer(dropout(hidden(x)) @ self.plain["kernels"][0])


def examples(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).to(dtype), torch.arange(6) % 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_they_are_scored_in_the_precision_and_mode_of_the_network(strategy: str, dtype: torch.dtype) -> None:
    model = Holding(dtype, 0.5, as_buffers=False)
    ((hidden, dropout),) = model.plain["layers"]
    mask = prune(model, strategy, fraction=0.5, examples=examples(dtype))
    if strategy != "synflow":  # it makes registered weights absolute, and these are registered in one network only
        whole = Holding(dtype, 0.0, as_buffers=True)
        same = prune(whole, strategy, fraction=0.5, examples=examples(dtype), prunable_layers="layer")
        assert torch.equal(mask["layer.weight"], same["layer.weight"])
    assert dropout.training
    assert hidden.weight.dtype == model.plain["kernels"][0].dtype == dtype
