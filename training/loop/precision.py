"""Numerical precision of training: autocast, loss scaling and TF32 for each setting."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Return the context of each forward pass."""
    dtype = _AUTOCAST.get(precision)
    return contextlib.nullcontext if dtype is None else lambda: torch.autocast(device.type, dtype)


def grad_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return the scaler of the loss: active in fp16, where small gradients would vanish; otherwise without effect."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


@contextlib.contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Inside the block, let float32 matrix products and convolutions use TF32, or forbid it."""
    former = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    is_tf32 = precision == "tf32"
    if former == ("high" if is_tf32 else "highest", is_tf32):
        yield
        return
    torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = is_tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(former[0])
        torch.backends.cudnn.allow_tf32 = former[1]
