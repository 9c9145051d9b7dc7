"""A network as a list of calls of PyTorch's operators, which any program with torch can repeat."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from foundations.errors import UsageError
from foundations.inputs import Inputs

_PLACES = ("device", "pin_memory")
"""Options that say where a tensor is made."""
_NAMED = (torch.dtype, torch.layout, torch.memory_format)


def graph_of(model: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Return the calls of a network in eval mode: `nodes`, and the name of the `output`.

    A node is `[name, operator, arguments, options]`. Operators are `aten.<name>.<overload>` or `operator.<name>`. An
    argument is a plain value, a list, `{"node": name}`, `{"tensor": name of a parameter or buffer}` or
    `{"torch": attribute}`. The first node that is not in the list is `input`, the examples.
    Raises: UsageError if the network is not such a list: it branches on its values, or calls other operators.
    """
    examples = inputs.blank(2)
    first = ""
    for strict in (False, True):  # the other way, which reads bytecode, follows len(x), too
        try:
            found = _exported(model, examples, strict=strict)
            json.dumps(found, allow_nan=False)
            return found
        except Exception as error:  # tracing runs the network's own code
            first = first or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    raise UsageError(f"the network is not a list of PyTorch's operators ({first})")


def extra_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a network that its state dict leaves out, by name."""
    state = model.state_dict()
    return {name: buffer.contiguous() for name, buffer in model.named_buffers() if name not in state}


def _exported(model: nn.Module, examples: Tensor, *, strict: bool) -> dict[str, Any]:
    exported = torch.export.export(model, (examples,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=strict)
    signature, tensors = exported.graph_signature, {*model.state_dict(), *extra_buffers(model)}
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return _calls(
        list(exported.graph.nodes),
        {str(name): str(tensor) for name, tensor in sources.items() if tensor in tensors},
    )


def _calls(nodes: list[Node], tensors: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, dict[str, str]] = {}
    calls: list[list[Any]] = []
    for node in nodes:
        if node.op == "placeholder":
            values[node.name] = {"tensor": tensors[node.name]} if node.name in tensors else {"node": "input"}
            if len(values) > len(tensors) + 1:
                raise ValueError("it has constants that are neither parameters nor buffers")
        elif node.op == "output":
            (result,) = node.args[0] if isinstance(node.args[0], tuple | list) else (node.args[0],)
            return {"nodes": calls, "output": _value(result, values)["node"]}
        else:
            options = {name: _value(value, values) for name, value in node.kwargs.items() if name not in _PLACES}
            calls.append([node.name, _operator(node), [_value(value, values) for value in node.args], options])
            values[node.name] = {"node": node.name}
    raise ValueError("it has no output")


def _operator(node: Node) -> str:
    target = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return f"aten.{target.__name__}"
    name = getattr(target, "__name__", str(target))
    if node.op == "call_function" and getattr(operator, name, None) is target:
        return f"operator.{name}"
    raise ValueError(f"it calls {name}")


def _value(value: Any, values: Mapping[str, dict[str, str]]) -> Any:
    if isinstance(value, Node):
        return values[value.name]
    if isinstance(value, list | tuple):
        return [_value(each, values) for each in value]
    if isinstance(value, _NAMED):
        return {"torch": str(value).removeprefix("torch.")}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"an operator takes a {type(value).__name__}")
