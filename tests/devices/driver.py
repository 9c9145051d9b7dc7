"""The parts of PyTorch that need a driver, played for the simulated device: autocast, graphs, streams, generators.

`played` puts them in the place of PyTorch's. Autocast casts as its lists say (PyTorch's documentation, 'Autocast Op
Reference'). A CUDA graph keeps the operations between the begin and the end of its capture, and a replay computes them
again on the tensors that they had, into the tensors that they gave. Waiting during a capture is an error, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

_IN_LOWER = {
    *(F.linear, F.conv1d, F.conv2d, F.scaled_dot_product_attention, torch.conv1d, torch.conv2d),
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm),
}
_IN_FLOAT32 = {
    *(F.cross_entropy, F.nll_loss, F.mse_loss, F.softmax, F.log_softmax, F.layer_norm),
    *(torch.softmax, torch.log_softmax, Tensor.softmax, Tensor.log_softmax, torch.pow, Tensor.pow),
    *(torch.sum, Tensor.sum, torch.prod, Tensor.prod, torch.norm, torch.exp, Tensor.exp, torch.log, Tensor.log),
}


class Autocast(TorchFunctionMode):
    """Casts as autocast on a GPU does: some operations compute in the lower precision, some in float32."""

    def __init__(self, driver: Driver, dtype: torch.dtype | None) -> None:
        """Take the precision, None to turn autocast off."""
        super().__init__()
        self._driver, self._dtype = driver, dtype

    def __enter__(self) -> Any:
        self._driver.autocasts.append(self._dtype)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._driver.autocasts.pop()
        super().__exit__(*error)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, inner = kwargs or {}, self._driver.autocasts[-1]
        kind = inner if func in _IN_LOWER else torch.float32 if func in _IN_FLOAT32 else None
        if inner is None or kind is None:
            return func(*args, **kwargs)
        if kind is inner:
            self._driver.casts.append(kind)

        def cast(tensor: Tensor) -> Tensor:
            is_cast = tensor.is_cuda and tensor.is_floating_point() and tensor.dtype != torch.float64
            return tensor.to(kind) if is_cast else tensor

        cast_args, cast_kwargs = tree_map_only(Tensor, cast, (tuple(args), dict(kwargs)))
        return func(*cast_args, **cast_kwargs)


@dataclass
class Operation:
    """An operation of a captured graph, with its results."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: Any

    def again(self) -> None:
        """Compute it on the present values of its operands."""
        new = self.func(*self.args, **self.kwargs)
        for there, value in zip(tree_leaves(self.results), tree_leaves(new), strict=True):
            if isinstance(there, Tensor) and there.data_ptr() != value.data_ptr():
                there.copy_(value)


@dataclass
class Graph:
    """A CUDA graph."""

    operations: list[Operation] = field(default_factory=list)
    replays: int = 0

    def replay(self) -> None:
        """Launch the graph."""
        self.replays += 1
        with torch.no_grad():
            for operation in self.operations:
                operation.again()


@dataclass
class Driver:
    """The state of the driver."""

    graphs: list[Graph] = field(default_factory=list)
    capturing: Graph | None = None
    autocasts: list[torch.dtype | None] = field(default_factory=list)
    """The precision of each block of autocast that is open, None where it is off."""
    casts: list[torch.dtype] = field(default_factory=list)
    """The precisions of operations that autocast computed in a lower one."""
    streams: list[str] = field(default_factory=list)
    """Events of streams."""
    seeded: list[int] = field(default_factory=list)
    """Seeds of the device's generator."""

    @contextmanager
    def capture(self, graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
        """Capture the operations of the block, as torch.cuda.graph does."""
        self.graphs.append(graph)
        self.capturing = graph
        try:
            yield
        finally:
            self.capturing = None

    def note(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], results: Any) -> None:
        """Add an operation to the graph that is captured."""
        if self.capturing is not None:
            self.capturing.operations.append(Operation(func, args, kwargs, results))

    def check_may_wait(self) -> None:
        """Raise as CUDA does where the host waits during a capture."""
        if self.capturing is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def stream(self, *_: Any) -> Stream:
        """Return a new stream."""
        return Stream(self.streams)

    @contextmanager
    def on_stream(self, _stream: Stream) -> Iterator[None]:
        """Work on a stream inside the block."""
        self.streams.append("begin")
        yield
        self.streams.append("end")

    def autocast(
        self, device_type: str, dtype: torch.dtype | None = None, enabled: bool = True, **kwargs: Any
    ) -> AbstractContextManager[Any]:
        """Return the context of torch.autocast, or a played one for CUDA."""
        if device_type != "cuda":
            return torch.amp.autocast_mode.autocast(device_type, dtype, enabled, **kwargs)
        return Autocast(self, (dtype or torch.float16) if enabled else None)


@dataclass
class Stream:
    """A stream of a GPU, on which work is done at once."""

    events: list[str]

    def wait_stream(self, _other: Stream) -> None:
        """Wait for another stream."""
        self.events.append("wait")


class Generator(torch.Generator):
    """The device's generator, on the CPU."""

    seeds: list[int]

    def manual_seed(self, seed: int) -> torch.Generator:
        """Seed it."""
        self.seeds.append(seed)
        return super().manual_seed(seed)


@contextmanager
def played(wait: Callable[[str], None]) -> Iterator[Driver]:
    """Put the driver's functions in the place of PyTorch's. wait: called where the host waits for the device."""
    driver, generator = Driver(), Generator()
    generator.seeds = driver.seeded
    places: dict[str, Any] = {
        "torch.autocast": driver.autocast,
        "torch.cuda._lazy_init": lambda: None,
        "torch.cuda.amp.common.amp_definitely_not_available": lambda: False,
        "torch.cuda.default_generators": (generator,),
        "torch.cuda.get_rng_state": lambda *_: generator.get_state(),
        "torch.cuda.set_rng_state": lambda state, *_: generator.set_state(state),
        "torch.cuda.synchronize": lambda *_: wait("synchronize"),
        "torch.cuda.get_device_name": lambda *_: "simulated",
        "torch.cuda.Stream": driver.stream,
        "torch.cuda.current_stream": driver.stream,
        "torch.cuda.stream": driver.on_stream,
        "torch.cuda.CUDAGraph": Graph,
        "torch.cuda.graph": driver.capture,
    }
    with ExitStack() as stack:
        for place, part in places.items():
            stack.enter_context(mock.patch(place, part))
        yield driver
