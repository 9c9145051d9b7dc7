"""Recording the forward and backward pass of a training step once, and replaying it.

A step of a small network is hundreds of short kernels, and a GPU waits for Python between them. A CUDA graph launches
all of them at once (PyTorch's documentation, 'CUDA Graphs'). Its tensors are always the same: each batch is copied
into its inputs, its outputs are read before the next replay, and gradients stay in place. Everything that varies from
step to step stays outside: the learning rate, the optimizer, masks, techniques, and batches of another size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

_WARM_UP = 3
"""Warm-up steps before a recording, as PyTorch requires: libraries choose their kernels and memory in them."""
Pass = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""(inputs) -> outputs; puts gradients into parameters that had none."""


class Recorder(Protocol):
    """Records work on a device."""

    def __call__(self, work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
        """Return the outputs of some work, and a function that repeats it on the present inputs into the same outputs.

        The outputs have no values yet. Raises: RuntimeError if the work cannot be recorded.
        """


def recorder_for(device: torch.device) -> Recorder | None:
    """Return the recorder of a device, or None if the device has none."""
    return record_on_cuda if device.type == "cuda" else None


def record_on_cuda(work: Callable[[], Sequence[Tensor]]) -> tuple[Sequence[Tensor], Callable[[], None]]:
    """Record work as a CUDA graph (see `Recorder`)."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = work()
    return outputs, graph.replay


class Replayed:
    """A pass that is recorded on its first call, and replayed for inputs of the same shapes.

    It is recorded again if parameters or buffers have moved, and for larger inputs: the first input may be the last,
    smaller batch of an epoch.
    """

    def __init__(
        self,
        compute: Pass,
        parameters: Sequence[Tensor],
        buffers: Sequence[Tensor],
        record: Recorder,
    ) -> None:
        """Take a pass and all tensors that it changes: gradients of parameters, and buffers."""
        self._compute, self._parameters, self._buffers, self.record = compute, list(parameters), list(buffers), record
        self._inputs: list[Tensor] = []
        self._outputs: Sequence[Tensor] = ()
        self._gradients: list[Tensor | None] = []
        self._replay: Callable[[], None] | None = None
        self._places: list[int] = []
        self._cannot_record = False

    def __call__(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the outputs for some inputs, valid until the next call; put the gradients into the parameters."""
        places = [tensor.data_ptr() for tensor in (*self._parameters, *self._buffers)]
        is_new = places != self._places or inputs[0].numel() > self._inputs[0].numel()
        if is_new and not self._cannot_record:
            self._places = places
            self._try_to_record(inputs)
        if self._replay is None or [each.shape for each in inputs] != [each.shape for each in self._inputs]:
            self._drop_gradients()
            return self._compute(inputs)
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._outputs

    def _try_to_record(self, inputs: Sequence[Tensor]) -> None:
        self._inputs, self._replay = [each.clone() for each in inputs], None
        kept = [buffer.clone() for buffer in self._buffers]
        try:
            self._warm_up()
            self._drop_gradients()
            self._outputs, self._replay = self.record(lambda: self._compute(self._inputs))
            self._gradients = [parameter.grad for parameter in self._parameters]
        except RuntimeError:
            self._cannot_record = True
        finally:
            for buffer, value in zip(self._buffers, kept, strict=True):
                buffer.copy_(value)

    def _warm_up(self) -> None:
        if self._inputs[0].device.type != "cuda":
            return
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                self._drop_gradients()
                self._compute(self._inputs)
        torch.cuda.current_stream().wait_stream(stream)

    def _drop_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None
