"""Layers like people's own: they keep values, write in place, draw random numbers, refer to themselves."""

from __future__ import annotations

import functools
import random
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tape:
    """Choices read from bytes; behind their end, the first option is always chosen."""

    def __init__(self, values: bytes) -> None:
        self._values: Iterator[int] = iter(values)

    def of(self, *options: Any) -> Any:
        return options[next(self._values, 0) % len(options)]


class Applied(nn.Module):
    """A function of the input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class FunctionalDropout(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Noise(nn.Module):
    """Draws from all global generators, in either mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 0.1 * random.random() + 0.1 * float(np.random.random())) + 0.1 * torch.randn_like(x)


class NoiseInTraining(Noise):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


class OwnGenerators(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.torch, self.numpy, self.python = (
            torch.Generator().manual_seed(1),
            np.random.default_rng(1),
            random.Random(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        drawn = float(self.numpy.random()) + self.python.random() + float(torch.rand((), generator=self.torch))
        return x * (1 + 0.1 * drawn)


class OwnParameters(nn.Module):
    """A scale in a ParameterDict and a matrix of its own, which are not prunable by default."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(width, width))
        self.scales = nn.ParameterDict({"one": torch.ones(width), "other": torch.randn(width)})
        self.shifts = nn.ParameterList([torch.randn(width)])
        self.register_buffer("offset", torch.randn(width), persistent=False)
        self.register_parameter("none", None)

    def forward(self, x: Tensor) -> Tensor:
        found = x @ self.matrix * self.scales["one"] + self.shifts[0] + self.offset
        return found * torch.sigmoid(self.scales["other"])


class Keeping(nn.Module):
    """Keeps its results, in attributes and in a dictionary, and objects that cannot be copied."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.seen: dict[str, Any] = {}
        self.last: Tensor | None = None
        self.calls = 0
        self.lock = threading.Lock()
        self.itself = weakref.ref(self)
        self.plain = torch.ones(3)
        self.view = self.plain[1:]
        self.count: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.count += 1
        self.last = self.inner(x)
        self.seen["outputs"] = [self.last, self.last.detach()]
        assert self.last is not None
        return self.last


class InPlace(nn.Module):
    """Writes into its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5).add_(0.1) if x.is_floating_point() else x.fmod_(3)


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Branches(nn.Module):
    def __init__(self, branches: Iterable[nn.Module], joined: bool, axis: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({f"b{number}": branch for number, branch in enumerate(branches)})
        self.joined, self.axis = joined, axis

    def forward(self, x: Tensor) -> Tensor:
        parts = [branch(x) for branch in self.branches.values()]
        return torch.cat(parts, self.axis) if self.joined else torch.stack(parts).sum(0)


class Listed(nn.Module):
    """Layers in a ModuleList, in a plain list beside it, and one of them as an attribute, too."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.first = self.layers[0]
        self.plain = list(self.layers)
        self.by_name = {"last": self.layers[-1]}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.plain[:-1]:
            x = layer(x)
        return self.by_name["last"](x)


class Unregistered(nn.Module):
    """A layer that only this module knows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.hidden = [layer]

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden[0](x)


class Twice(nn.Module):
    """A layer that runs twice, under two names."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.one = layer
        self.other = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.other(torch.tanh(self.one(x)))


class Recurrent(nn.Module):
    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.rnn = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Attention(nn.Module):
    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class OwnAttention(nn.Module):
    """Attention by one linear layer and the functional form, which drops in train mode."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)


class Watch:
    """Record of hooks: the objects that they belong to must not change while a network is scored."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def record(self, *args: Any) -> None:
        self.seen.append(args[-1])

    def __call__(self, *args: Any) -> None:
        self.record(*args)


def hooked(tape: Tape, layer: nn.Module, watches: list[Watch]) -> nn.Module:
    """Return a layer with one of the many kinds of hooks, or with a forward method of its own."""
    watch = Watch()
    watches.append(watch)
    seen = watch.seen

    def append(*args: Any) -> None:
        seen.append(args[-1])

    @functools.wraps(append)
    def wrapped(*args: Any) -> None:
        append(*args)

    hook = tape.of(append, watch.record, watch, functools.partial(watch.record, 1), wrapped)
    kind = tape.of("forward", "pre", "backward", "scaled", "closure", "bound", "wrapped", "partial")
    forward = layer.forward
    if kind == "forward":
        layer.register_forward_hook(hook)
    elif kind == "pre":
        layer.register_forward_pre_hook(hook)
    elif kind == "backward":
        layer.register_full_backward_hook(hook)
    elif kind == "scaled":
        layer.register_forward_hook(lambda *args: args[-1] * 2)
    elif kind == "closure":
        layer.forward = lambda x: forward(x) * 2
    elif kind == "bound":
        layer.forward = types.MethodType(_doubled, layer)
    elif kind == "wrapped":

        def half(x: Tensor) -> Tensor:
            return forward(x) / 2

        @functools.wraps(half)
        def outer(*args: Any, **kwargs: Any) -> Tensor:
            hook(None)
            return half(*args, **kwargs)

        layer.forward = outer
    else:
        layer.forward = functools.partial(_doubled, layer)
    return layer


def _doubled(layer: nn.Module, x: Tensor) -> Tensor:
    return type(layer).forward(layer, x) * 2
