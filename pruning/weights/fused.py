"""Weights of several projections in one tensor: the queries, keys and values of attention. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

PARTS = ("q", "k", "v")
_ROWS = ("qkv", "Wqkv", "in_proj_weight")
"""Names of layers, or of tensors, that hold q, k and v one below another: open_prune's, timm's and torch's."""
_COLUMNS = ("c_attn",)
"""Names of layers that hold them side by side: GPT-2's of transformers, whose weights are (inputs, outputs)."""


def axis_of_parts(name: str, shape: tuple[int, ...]) -> int | None:
    """Return the axis along which a tensor holds q, k and v, in equal parts; None for tensors that do not."""
    names = name.removesuffix(".weight").rpartition(".")[2]
    axis = 0 if names in _ROWS else 1 if names in _COLUMNS else None
    return axis if axis is not None and len(shape) == 2 and shape[axis] % 3 == 0 else None


def with_parts(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the rows of a sparsity report by name, with rows for q, k and v in place of a tensor that holds them."""
    return dict(_rows(layers))


def _rows(layers: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, layer in layers.items():
        parts = layer.get("parts")
        if parts is None:
            yield name, layer
        else:
            yield from ((f"{name}[{part}]", parts[part]) for part in PARTS)
