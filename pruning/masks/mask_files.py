"""The file format of masks: a bit for each weight, and a header with the shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from foundations.errors import DamagedError

_VERSION = 1


def pack(mask: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the bits of bool tensors, uint8 of ceil(numel / 8) bytes each (lowest bit first), and the header."""
    bits = {
        name: torch.from_numpy(np.packbits(tensor.flatten().numpy(), bitorder="little"))
        for name, tensor in mask.items()
    }
    return bits, {"mask_version": _VERSION, "shapes": {name: list(tensor.shape) for name, tensor in mask.items()}}


def unpack(bits: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the bool tensors that `pack` packed. Raises: DamagedError if bits and header do not match."""
    try:
        version = header["mask_version"]
        shapes = {name: tuple(int(size) for size in shape) for name, shape in header["shapes"].items()}
        if any(size < 0 for shape in shapes.values() for size in shape):
            raise ValueError("there is no such shape")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedError("this is not a mask: its header is missing or damaged.") from error
    if version != _VERSION:
        raise DamagedError(f"this mask has version {version}; only version {_VERSION} is known.")
    if set(bits) != set(shapes):
        raise DamagedError(f"this mask is damaged: {sorted(set(bits) ^ set(shapes))} have either no bits or no shape.")
    return {name: _unpack(name, bits[name], shape) for name, shape in shapes.items()}


def _unpack(name: str, bits: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    size = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.shape != ((size + 7) // 8,):
        raise DamagedError(f"this mask is damaged: '{name}' does not have the bits of a tensor of shape {shape}.")
    values = np.unpackbits(bits.numpy(), bitorder="little")
    if values[size:].any():
        raise DamagedError(f"this mask is damaged: '{name}' has bits beyond its shape {shape}.")
    return torch.from_numpy(values[:size].astype(bool)).view(shape)
