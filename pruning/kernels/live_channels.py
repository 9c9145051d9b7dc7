"""Layers that skip channels without kept weights.

Where all weights into or out of a channel are pruned, a layer reads or writes zeros there. As pruning goes on, SynFlow
leaves few channels: at a density of 10%, the weights between them are 22% of all in ResNet-20.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from foundations.errors import UsageError
from pruning.masks.mask import Mask

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_WORTHWHILE = 0.8
"""A layer computes with its live channels alone if the weights between them are a smaller share than this."""


@dataclass
class _Layer:
    """A layer, its weight, and its live channels: indices of output and input channels, int64."""

    module: nn.Module
    weight: nn.Parameter
    kept: int
    rows: Tensor | None = None
    columns: Tensor | None = None
    part: Tensor | None = None


class LiveChannels:
    """Lets the convolutions and linear layers of a network skip channels without weights, as masks shrink.

    Outputs and gradients are the same up to rounding. Layers of other kinds, grouped convolutions and shared weights
    are left as they are; so are layers on a GPU, where kernel launches take the time.
    """

    def __init__(self, network: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
        """Take a network, and the weights by name that masks cover."""
        users: dict[int, list[nn.Module]] = {}
        for module in network.modules():
            for parameter in module.parameters(recurse=False):
                users.setdefault(id(parameter), []).append(module)
        self._weights = dict(weights)
        self._layers: dict[str, _Layer] = {}
        for name, weight in weights.items():
            module, *others = users[id(weight)]
            is_plain = type(module) in _LAYERS and "forward" not in vars(module) and getattr(module, "groups", 1) == 1
            if (
                is_plain
                and weight.is_cpu
                and not others
                and module.weight is weight
                and not _has_strange_padding(module)
            ):
                self._layers[name] = _Layer(module, weight, weight.numel())

    @contextlib.contextmanager
    def under(self, mask: Mask) -> Iterator[None]:
        """Skip channels without weights under a mask, inside the block.

        The mask must prune all weights that the masks of earlier blocks pruned, and these weights must be zero.
        """
        kept = mask.kept_per_layer()
        for name, layer in self._layers.items():
            if kept[name] < 0.95 * layer.kept:
                layer.kept = kept[name]
                _narrow(layer, mask[name])
            if layer.rows is not None and layer.columns is not None:
                part = layer.weight.detach().index_select(0, layer.rows).index_select(1, layer.columns)
                layer.part = part.requires_grad_(True)
                vars(layer.module)["forward"] = partial(_forward, layer)
        try:
            yield
        finally:
            for layer in self._layers.values():
                vars(layer.module).pop("forward", None)

    def scores(self, value: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Return score(w, ∂value/∂w), an elementwise function, of all weights; 0 for weights of skipped channels.

        value: computed and differentiated in one `under` block.
        """
        weights = list(self._weights.values())
        layers = [self._layers.get(name) for name in self._weights]
        parts = [None if layer is None else layer.part for layer in layers]
        live = [part for part in parts if part is not None]
        if not value.requires_grad:
            raise UsageError("the outputs of the network do not depend on its prunable weights.", "strategy")
        gradients: Sequence[Tensor | None] = torch.autograd.grad(value, [*weights, *live], allow_unused=True)
        of_live = iter(gradients[len(weights) :])
        found = {}
        for name, weight, of_weight, layer, part in zip(
            self._weights, weights, gradients[: len(weights)], layers, parts, strict=True
        ):
            of_part = None if part is None else next(of_live)
            if layer is None or part is None or of_part is None:
                gradient = torch.zeros_like(weight) if of_weight is None else of_weight
                found[name] = score(weight.detach(), gradient).contiguous()
            elif of_weight is not None:  # something besides the layer uses its weight
                found[name] = score(weight.detach(), _spread(of_part, layer).add_(of_weight)).contiguous()
            else:
                found[name] = _spread(score(part.detach(), of_part), layer)
        return found


def _has_strange_padding(module: nn.Module) -> bool:
    return getattr(module, "padding_mode", "zeros") != "zeros" or isinstance(getattr(module, "padding", 0), str)


def _narrow(layer: _Layer, keeps: Tensor) -> None:
    """Restrict a layer to its channels with kept weights, if that is worthwhile."""
    outputs, inputs = keeps.shape[:2]
    bits = keeps.numpy().view(np.uint8).reshape(outputs, -1)
    rows, columns = bits.max(1).nonzero()[0], bits.max(0).reshape(inputs, -1).max(1).nonzero()[0]
    if not 0 < len(rows) * len(columns) < _WORTHWHILE * outputs * inputs:
        return
    layer.rows, layer.columns = torch.from_numpy(rows), torch.from_numpy(columns)


def _forward(layer: _Layer, x: Tensor) -> Tensor:
    module, rows, columns = layer.module, cast("Tensor", layer.rows), cast("Tensor", layer.columns)
    channels = x.dim() - (1 if isinstance(module, nn.Linear) else layer.weight.dim() - 1)
    x = x.index_select(channels, columns) if len(columns) < layer.weight.shape[1] else x
    if isinstance(module, nn.Linear):
        y = nn.functional.linear(x, cast("Tensor", layer.part))
    else:
        conv = cast("nn.Conv2d", module)
        y = conv._conv_forward(x, cast("Tensor", layer.part), None)
    if len(rows) < layer.weight.shape[0]:
        shape = list(y.shape)
        shape[channels] = layer.weight.shape[0]
        y = y.new_zeros(shape).index_copy(channels, rows, y)
    bias = cast("Tensor | None", module.bias)
    if bias is None:
        return y
    return y + (bias if isinstance(module, nn.Linear) else bias.view(-1, *[1] * (layer.weight.dim() - 2)))


def _spread(part: Tensor, layer: _Layer) -> Tensor:
    """Expand values of the weights between live channels to all weights of a layer; the others are 0."""
    rows, columns = cast("Tensor", layer.rows), cast("Tensor", layer.columns)
    shape = layer.weight.shape
    dtype = part.new_empty(0).numpy().dtype
    whole = torch.from_numpy(np.zeros(shape, dtype))  # unlike torch.zeros, it makes no pages that nobody writes to
    if len(columns) < shape[1]:
        part = part.new_zeros(len(rows), *shape[1:]).index_copy_(1, columns, part)
    return whole.index_copy_(0, rows, part)
