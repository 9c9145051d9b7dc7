"""Batch normalization over the parts of a batch, against that over the whole batch in float64 and torch's own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.networks.ghost_skips import FadingBatchNorm
from platforms.platform import Platform, Result
from training.loop.sync_batchnorm import synchronize


class Thread(Platform):
    """One of several threads, as a process would be."""

    def __init__(self, rank: int, parts: list[Tensor | None], barrier: threading.Barrier) -> None:
        self.rank, self.world_size = rank, len(parts)
        self._parts, self._barrier = parts, barrier

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def launch(self, job: Callable[[Platform], Result]) -> Result:
        return job(self)

    def sum_(self, tensor: Tensor) -> None:
        self._parts[self.rank] = tensor.clone()
        self._barrier.wait()
        total = torch.stack([part for part in self._parts if part is not None]).sum(0)
        self._barrier.wait()
        tensor.copy_(total)


def in_threads(count: int, work: Callable[[Platform], None]) -> None:
    parts: list[Tensor | None] = [None] * count
    barrier = threading.Barrier(count, timeout=20)
    threads = [threading.Thread(target=work, args=(Thread(rank, parts, barrier),)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, FadingBatchNorm])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_parts_are_normalized_as_the_whole_batch(kind: type[nn.BatchNorm2d], momentum: float | None) -> None:
    torch.manual_seed(0)
    x, weights = 100 + torch.randn(9, 3, 4, 4), torch.randn(9, 3, 4, 4)
    bounds = [(0, 2), (2, 2), (2, 9)]  # the second part is empty
    whole = kind(3, momentum=momentum)
    nn.init.uniform_(whole.weight)
    layers = [kind(3, momentum=momentum) for _ in bounds]
    inputs, outputs = [x[a:b].clone() if a < b else torch.zeros(1, 3, 4, 4) for a, b in bounds], [torch.empty(0)] * 3
    for layer, part in zip(layers, inputs, strict=True):
        layer.load_state_dict(whole.state_dict())
        part.requires_grad_()

    def step(platform: Platform) -> None:
        first, last = bounds[platform.rank]
        switch = synchronize([layers[platform.rank]], platform)
        with switch.over_processes(counts=first < last):
            outputs[platform.rank] = layers[platform.rank](inputs[platform.rank])
        factor = weights[first:last] if first < last else torch.zeros(1, 3, 4, 4)
        (outputs[platform.rank] * factor).sum().backward()

    in_threads(3, step)
    x.requires_grad_()
    expected = whole(x)
    (expected * weights).sum().backward()

    torch.testing.assert_close(torch.cat([outputs[0], outputs[2]]), expected, atol=1e-4, rtol=1e-4)
    assert inputs[0].grad is not None and inputs[2].grad is not None and x.grad is not None
    torch.testing.assert_close(torch.cat([inputs[0].grad, inputs[2].grad]), x.grad, atol=1e-4, rtol=1e-3)
    for name in ("weight", "bias"):
        total = sum(getattr(layer, name).grad for layer in layers)
        torch.testing.assert_close(total, getattr(whole, name).grad, atol=1e-3, rtol=1e-4)
    for layer in layers:
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(layer.get_buffer(name), buffer, atol=1e-4, rtol=1e-5)
    assert list(layers[0].state_dict()) == list(whole.state_dict())


def test_outside_of_the_block_a_layer_normalizes_what_it_is_given() -> None:
    torch.manual_seed(0)
    x, plain, layer = torch.randn(5, 3, 2, 2), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    synchronize([layer], Thread(0, [None, None], threading.Barrier(2)))

    assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer.eval()(x), plain.eval()(x))
