"""The graph of a network's units: its layers and the operations between them, traced in a forward pass.

A unit is a channel of a convolution or a feature of a linear layer. Tracing watches the forward pass of one example
call by call (so any Python code will do) and builds a graph of a few kinds of nodes: the input, layers with weights,
sums, concatenations and flattenings. Operations on each channel by itself (activations, batchnorm, pooling, cropping,
dropout) add no node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from foundations.errors import UsageError
from foundations.inputs import Inputs
from foundations.multiply_adds import in_eval_mode
from pruning.scoring.scoring_network import run

_CONVOLUTIONS: tuple[Any, ...] = (torch.conv1d, torch.conv2d, torch.conv3d)
_TRANSPOSED: tuple[Any, ...] = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
_CONCATENATIONS: tuple[Any, ...] = (torch.cat, torch.concat, torch.concatenate)
_MIXING: tuple[Any, ...] = (
    *(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm, torch.mm, torch.einsum),
    *(torch.permute, torch.Tensor.permute, torch.transpose, torch.Tensor.transpose),
    *(F.scaled_dot_product_attention, F.multi_head_attention_forward),
)


@dataclass(eq=False)
class Node:
    """A value with units, and its origin."""

    kind: Literal["input", "layer", "sum", "concat", "flatten"]
    units: int
    inputs: list[Node] = field(default_factory=list)
    layer: str | None = None
    """Of a layer: the name of its weight; None if that is not a parameter of the network."""
    weight_shape: torch.Size = field(default_factory=torch.Size)
    groups: int = 1
    transposed: bool = False
    """Of a layer: whether its weight is (in, out, ...), as in a transposed convolution."""
    offsets: list[int] = field(default_factory=list)
    """Of a concatenation: the first unit of each input; units in between are zeros."""
    repeat: int = 1
    """Of a flattening: the number of adjacent units that each unit becomes."""


@dataclass(frozen=True)
class Graph:
    """The nodes in the order in which they were computed, the output's nodes, and the parameters of each channel."""

    nodes: list[Node]
    outputs: list[Node]
    channelwise: dict[str, Node]
    """Parameters with one entry a unit other than the weights of layers, by name: biases, batchnorm's weights."""
    statistics: dict[str, Node] = field(default_factory=dict)
    """Buffers with one entry a unit, by name: batchnorm's running means and variances."""

    @property
    def layers(self) -> list[Node]:
        """The nodes with weights of the network, in the order in which they run."""
        return [node for node in self.nodes if node.layer is not None]


def trace(model: nn.Module, inputs: Inputs | Sequence[int]) -> Graph:
    """Return the graph of `model` for some inputs, or for float inputs of a shape (of one example).

    The model runs once, in eval mode and without gradients, and is left as it was.

    Raises: UsageError that names the operation if the units of a value cannot be followed, as through attention.
    """
    parameter = next(model.parameters())
    example = Inputs.of(inputs).blank(1, parameter.device, parameter.dtype)
    tracer = _Tracer(model, example)
    with in_eval_mode(model), torch.no_grad(), tracer:
        outputs = run(model, example)
    values = [tracer.node_of(value) for value in _tensors(outputs)]
    ends = [node for node in values if node is not None]
    return Graph(tracer.nodes, ends, tracer.channelwise, tracer.statistics)


@dataclass(frozen=True)
class _Call:
    """A call of a torch function in a forward pass: its first argument that has units, and its result."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    node: Node
    dim: int
    """The dimension of the units."""
    shape: torch.Size
    result: torch.Tensor

    def argument(self, place: int, name: str, default: Any) -> Any:
        """Return an argument that may be given by its place or by its name."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)


class _Tracer(TorchFunctionMode):
    """Watches the calls of a forward pass. Values are kept alive, so that no other value gets the same id."""

    def __init__(self, network: nn.Module, example: torch.Tensor) -> None:
        super().__init__()
        self.names = {id(parameter): name for name, parameter in sorted(network.named_parameters(), reverse=True)}
        self.buffers = {id(buffer): name for name, buffer in sorted(network.named_buffers(), reverse=True)}
        self.nodes: list[Node] = []
        self.channelwise: dict[str, Node] = {}
        self.statistics: dict[str, Node] = {}
        self._values: dict[int, tuple[torch.Tensor, Node, int]] = {}
        if example.dim() < 2:
            raise UsageError("input_shape: an example needs at least one dimension.")
        self._add(Node("input", example.shape[1]), example, 1)

    def node_of(self, value: torch.Tensor) -> Node | None:
        found = self._values.get(id(value))
        return found[1] if found else None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tracked = [value for value in _tensors((args, kwargs)) if id(value) in self._values]
        shapes = [value.shape for value in tracked]
        result = func(*args, **kwargs)
        if tracked and isinstance(result, torch.Tensor) and result.is_floating_point():
            places = [self._values[id(value)][1:] for value in tracked]
            self._record(_Call(func, args, kwargs, *places[0], shapes[0], result), places)
        elif tracked and isinstance(result, tuple | list) and any(isinstance(part, torch.Tensor) for part in result):
            raise _cannot_follow(func)
        return result

    def _record(self, call: _Call, places: list[tuple[Node, int]]) -> None:
        """Record a call. places: the node and the dimension of each of its arguments that have units."""
        func, node, dim, result = call.func, call.node, call.dim, call.result
        if func in _CONVOLUTIONS or func in _TRANSPOSED or func is F.linear:
            self._record_layer(call)
        elif func in _CONCATENATIONS and call.argument(1, "dim", 0) % result.dim() == dim:
            self._record_concatenation(call.argument(0, "tensors", ()), result, dim)
        elif func in _MIXING:
            raise _cannot_follow(func)
        elif len({id(other) for other, _ in places}) > 1:
            if any(other.units != node.units or at != dim for other, at in places) or result.shape[dim] != node.units:
                raise _cannot_follow(func)
            self._add(Node("sum", node.units, list(dict.fromkeys(other for other, _ in places))), result, dim)
        else:
            self._record_unary(call)
            for value in _tensors((call.args, call.kwargs)):
                if id(value) in self.names and value.shape == (node.units,):
                    self.channelwise[self.names[id(value)]] = node
                if id(value) in self.buffers and value.shape == (node.units,):
                    self.statistics[self.buffers[id(value)]] = node

    def _record_layer(self, call: _Call) -> None:
        is_linear, units = call.func is F.linear, call.dim
        if is_linear and units != call.result.dim() - 1:
            where = f" on dimension {call.result.dim() - 1}, where units are dimension {units}"
            raise _cannot_follow(call.func, where)
        weight, bias = call.argument(1, "weight", None), call.argument(2, "bias", None)
        layer = Node(
            "layer",
            call.result.shape[units],
            [call.node],
            layer=self.names.get(id(weight)),
            weight_shape=weight.shape,
            groups=1 if is_linear else int(call.argument(6, "groups", 1)),
            transposed=call.func in _TRANSPOSED,
        )
        self._add(layer, call.result, units)
        if bias is not None and id(bias) in self.names:
            self.channelwise[self.names[id(bias)]] = layer

    def _record_concatenation(self, parts: Any, result: torch.Tensor, dim: int) -> None:
        inputs, offsets, offset = [], [], 0
        for part in parts:
            node = self.node_of(part)
            if node is not None:
                inputs.append(node)
                offsets.append(offset)
            offset += part.shape[dim]
        self._add(Node("concat", offset, inputs, offsets=offsets), result, dim)

    def _record_unary(self, call: _Call) -> None:
        node, dim, shape, result = call.node, call.dim, call.shape, call.result
        units = result.shape[dim] if dim < result.dim() else 0
        if units == node.units and result.dim() <= len(shape):
            self._values[id(result)] = (result, node, dim)
        elif call.func is F.pad and result.dim() == len(shape):
            offset = int(call.argument(1, "pad", ())[2 * (len(shape) - 1 - dim)])
            self._add(Node("concat", units, [node], offsets=[offset]), result, dim)
        elif result.dim() < len(shape) and result.numel() == shape.numel() and units == shape[dim:].numel():
            self._add(Node("flatten", units, [node], repeat=units // node.units), result, dim)
        else:
            raise _cannot_follow(call.func)

    def _add(self, node: Node, value: torch.Tensor, dim: int) -> None:
        self.nodes.append(node)
        self._values[id(value)] = (value, node, dim)


def _cannot_follow(func: Callable[..., Any], where: str = "") -> UsageError:
    name = resolve_name(func) or getattr(func, "__name__", repr(func))
    return UsageError(
        f"the units of this network cannot be followed through {name}{where}, but only through layers, sums, "
        "flattening, concatenations of channels and operations on each channel."
    )


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
