"""What a mask left of a network, in numbers: requested and achieved, in total and layer by layer."""

from __future__ import annotations

from typing import Any

from pruning.mask import Mask


def sparsity_report(mask: Mask, requested_kept: int | None = None) -> dict[str, Any]:
    """Return a report of a mask, ready for JSON.

    total: prunable weights. requested and achieved: kept weights, density (kept / total) and sparsity (1 - density);
    without `requested_kept`, what was achieved was requested. layers: the same by tensor, with its shape.
    collapsed_layers: the tensors of which nothing is left.
    """
    kept = mask.kept_per_layer()
    layers = {
        name: {"shape": list(tensor.shape), "total": tensor.numel(), **_levels(kept[name], tensor.numel())}
        for name, tensor in mask.items()
    }
    return {
        "total": mask.total,
        "requested": _levels(mask.kept if requested_kept is None else requested_kept, mask.total),
        "achieved": _levels(mask.kept, mask.total),
        "collapsed_layers": [name for name in mask if kept[name] == 0],
        "layers": layers,
    }


def _levels(kept: int, total: int) -> dict[str, float]:
    density = kept / total if total else 1.0
    return {"kept": kept, "density": density, "sparsity": 1 - density}
