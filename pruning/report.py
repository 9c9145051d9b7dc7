"""Report of a mask in numbers: requested and achieved, in total and layer by layer."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import nn

from foundations.errors import UsageError
from foundations.inputs import Inputs
from foundations.multiply_adds import uses_of_parameters
from pruning.masks.mask import Mask
from pruning.paths.connectivity import effective, sums_by_unit
from pruning.paths.graph import Graph, trace
from pruning.scoring.score_statistics import Statistics
from pruning.weights.fused import PARTS, axis_of_parts
from pruning.weights.left_out import left_out
from pruning.weights.named_weights import named_weights, plain, unwrapped


def sparsity_report(
    mask: Mask,
    requested_kept: int | None = None,
    *,
    requested_effective_density: float | None = None,
    model: nn.Module | None = None,
    input_shape: Inputs | tuple[int, ...] | None = None,
    scores: Statistics | None = None,
) -> dict[str, Any]:
    """Return a report of a mask, ready for JSON.

    total: prunable weights. requested and achieved: kept weights, density (kept / total) and sparsity (1 - density);
    without `requested_kept`, they are equal. With `requested_effective_density`, also requested_effective, of kept
    weights on paths. layers: the same by tensor, with its shape.
    collapsed_layers: the tensors with no weights left. Tensors that hold the queries, keys and values of attention
    have the same for q, k and v, as `parts`.

    With `model`, also tied, where there are any: the other names of prunable tensors that several layers share.

    With `model`, also not_prunable, where there are any: the number of weights in each layer that the mask does not
    cover, besides biases and normalization.

    With `model` and the shape of one example (or `Inputs`, such as of tokens), also: effective, the counts without kept
    weights that are on no path from the input to the output (null, with the reason in `effective_unknown`, for a
    network whose units cannot be followed); by tensor, effective_kept and effective_density; in_degree, kept weights
    into each output unit, and out_degree, kept weights out of each input unit, as mean, min, max and the number of
    units without any; multiply_adds of the prunable weights for one example, total and kept, in total and by tensor
    (null where some layer does not run its own forward pass), and `others`, of biases and normalization, which no mask
    removes.

    With `scores`, the statistics of the last scoring, by tensor `scores` (`pruning.scoring.score_statistics`).

    Raises: UsageError if `mask` is not a Mask.
    """
    if not isinstance(mask, Mask):
        raise UsageError(
            f"it takes a Mask, and this is a {type(mask).__name__}. `prune` returns one, and a PruningWrapper has "
            "one in `mask`. Networks are the argument `model`.",
            "mask",
        )
    kept = mask.kept_per_layer()
    layers: dict[str, dict[str, Any]] = {
        name: {"shape": list(tensor.shape), "total": tensor.numel(), **_levels(kept[name], tensor.numel())}
        for name, tensor in mask.items()
    }
    for name, layer in layers.items():
        if parts := _parts(name, mask[name]):
            layer["parts"] = parts
    report: dict[str, Any] = {
        "total": mask.total,
        "requested": _levels(mask.kept if requested_kept is None else requested_kept, mask.total),
        "achieved": _levels(mask.kept, mask.total),
        "collapsed_layers": [name for name in mask if kept[name] == 0],
        "layers": layers,
    }
    if requested_effective_density is not None:
        wanted = -int(-mask.total * Fraction(repr(float(requested_effective_density))) // 1)
        report["requested_effective"] = _levels(wanted, mask.total)
    if model is not None and (rest := left_out(model, mask)) is not None:
        unregistered = {"(not registered)": rest.unregistered} if rest.unregistered else {}
        report["not_prunable"] = {**rest.layers, **unregistered}
    if model is not None and (tied := _tied(model, mask)):
        report["tied"] = tied
    if model is not None and input_shape is not None:
        model = plain(model)
        try:
            report["effective"] = _add_connectivity(layers, mask, trace(model, input_shape))
        except UsageError as reason:
            report["effective"], report["effective_unknown"] = None, str(reason)
        report["multiply_adds"] = _add_multiply_adds(layers, model, input_shape)
    for name, statistics in (scores or {}).items():
        layers[name]["scores"] = statistics
    return report


def _add_connectivity(layers: dict[str, dict[str, Any]], mask: Mask, graph: Graph) -> dict[str, float]:
    on_paths = effective(graph, mask)
    for name, kept in on_paths.kept_per_layer().items():
        layers[name]["effective_kept"] = kept
        layers[name]["effective_density"] = _levels(kept, mask[name].numel())["density"]
    for node in graph.layers:
        if node.layer and node.layer in mask:
            into, out_of = sums_by_unit(node, mask[node.layer])
            layers[node.layer] |= {"in_degree": _spread(into), "out_degree": _spread(out_of)}
    return _levels(on_paths.kept, mask.total)


def _add_multiply_adds(
    layers: dict[str, dict[str, Any]], model: nn.Module, inputs: Inputs | tuple[int, ...]
) -> dict[str, float] | None:
    uses = uses_of_parameters(model, inputs)
    for name, layer in layers.items():
        number = uses.get(name)
        layer["multiply_adds"] = None if number is None else {key: layer[key] * number for key in ("total", "kept")}
    counts = [layer["multiply_adds"] for layer in layers.values()]
    if None in counts:
        return None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    others = sum(parameters[name].numel() * number for name, number in uses.items() if name not in layers)
    total, kept = (sum(count[key] for count in counts) for key in ("total", "kept"))
    return {"total": total, "kept": kept, "density": kept / total if total else 1.0, "others": others}


def _parts(name: str, kept: torch.Tensor) -> dict[str, dict[str, Any]]:
    """Return the rows of the projections in a tensor of attention, by `q`, `k` and `v`; none for other tensors."""
    axis = axis_of_parts(name, tuple(kept.shape))
    if axis is None:
        return {}
    return {
        part: {"shape": list(own.shape), "total": own.numel(), **_levels(int(own.sum()), own.numel())}
        for part, own in zip(PARTS, kept.chunk(3, axis), strict=True)
    }


def _tied(model: nn.Module, mask: Mask) -> dict[str, list[str]]:
    """Return the other names of the tensors of a mask that several layers of a network share."""
    tensors = named_weights(unwrapped(model))
    names: dict[int, list[str]] = {}
    for name in sorted(tensors):
        names.setdefault(id(tensors[name]), []).append(name)
    shared = (each for each in names.values() if len(each) > 1)
    return {each[0]: each[1:] for each in shared if each[0] in mask}


def _levels(kept: int, total: int) -> dict[str, float]:
    density = kept / total if total else 1.0
    return {"kept": kept, "density": density, "sparsity": 1 - density}


def _spread(degree: torch.Tensor) -> dict[str, float]:
    return {
        "mean": float(degree.double().mean()),
        "min": int(degree.min()),
        "max": int(degree.max()),
        "units_without": int(torch.count_nonzero(degree == 0)),
    }
