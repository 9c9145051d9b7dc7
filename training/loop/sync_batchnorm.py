"""Batch normalization over a batch split among processes, as torch.nn.SyncBatchNorm, on CPUs as well.

The layers keep their names and their state. Only when they normalize a batch in training, inside
`Synchronization.over_processes`, they use the mean and variance of the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from platforms.platform import Platform


class Synchronization:
    """Whether layers normalize over all processes at present, and whether this process's examples count."""

    def __init__(self, platform: Platform) -> None:
        """Take the platform that sums over the processes. Synchronization starts off."""
        self.platform = platform
        self.is_on, self.counts = False, True

    @contextlib.contextmanager
    def over_processes(self, *, counts: bool) -> Iterator[None]:
        """Inside the block, normalize over all processes. counts: whether this process's examples are in the batch."""
        self.is_on, self.counts = True, counts
        try:
            yield
        finally:
            self.is_on = False


def synchronize(norms: Iterable[_BatchNorm], platform: Platform) -> Synchronization:
    """Let batch normalization layers normalize over all processes of a platform, while this is switched on."""
    switch = Synchronization(platform)
    for norm in norms:
        norm.__class__ = _synchronized_class(type(norm), switch)
    return switch


def _synchronized_class(kind: type[_BatchNorm], switch: Synchronization) -> type[Any]:
    """Return a subclass in which torch's own forward pass, wherever `kind` calls it, normalizes over all processes."""
    torchs: Any = next(base for base in kind.__mro__ if base.__module__.startswith("torch."))

    def forward(self: Any, x: Tensor) -> Tensor:
        if not (switch.is_on and self.training):
            return torchs.forward(self, x)  # type: ignore[no-any-return]
        self._check_input_dim(x)
        normalized, mean, variance, count = _Normalized.apply(x, self.weight, self.bias, self.eps, switch)
        if self.track_running_stats:
            _update_statistics(self, mean, variance * (count / (count - 1)))
        return normalized  # type: ignore[no-any-return]

    synchronized = type(kind.__name__, (torchs,), {"forward": forward})
    return synchronized if kind is torchs else type(kind.__name__, (kind, synchronized), {})


@torch.no_grad()
def _update_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards those of a batch. variance: unbiased."""
    assert norm.num_batches_tracked is not None and norm.running_mean is not None and norm.running_var is not None
    norm.num_batches_tracked.add_(1)
    weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean), weight)
    norm.running_var.lerp_(variance.to(norm.running_var), weight)


class _Normalized(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, by channel, over the examples of all processes that count."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, switch: Synchronization
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the output, and mean, biased variance, each (C,), and number of values, (), of a channel."""
        platform, channels = switch.platform, x.shape[1]
        wide = _wide(x)
        rows = wide.new_zeros(platform.world_size, 2 * channels + 1)
        if switch.counts:
            variances, means = torch.var_mean(wide, _all_but_channels(x), correction=0)
            number = wide.new_full((1,), x.numel() // channels)
            rows[platform.rank] = torch.cat([means, variances, number])
        platform.sum_(rows)  # each process has filled its own row
        means, variances, numbers = torch.split(rows, [channels, channels, 1], 1)
        count = numbers.sum()
        mean = (numbers * means).sum(0) / count
        variance = (numbers * (variances + (means - mean).square())).sum(0) / count
        scale = (variance + eps).rsqrt()
        centred = (wide - _spread(mean, x)) * _spread(scale, x)
        ctx.save_for_backward(centred, scale, weight, count)
        ctx.switch_platform, ctx.counts, ctx.has_bias = platform, switch.counts, bias is not None
        ctx.mark_non_differentiable(mean, variance, count)
        found = centred if weight is None else centred * _spread(weight, x)
        found = found if bias is None else found + _spread(bias, x)
        return found.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for x, weight and bias; weight's and bias's are this process's part of the sums."""
        centred, scale, weight, count = ctx.saved_tensors
        given = _wide(gradients[0])
        summed = torch.stack([given.sum(_all_but_channels(given)), (given * centred).sum(_all_but_channels(given))])
        over_all = summed.clone()
        ctx.switch_platform.sum_(over_all)
        inner = given
        if ctx.counts:
            shift, slope = over_all / count
            inner = given - _spread(shift, given) - centred * _spread(slope, given)
        factor = scale if weight is None else scale * weight
        to_x = (inner * _spread(factor, given)).to(gradients[0].dtype)
        return to_x, None if weight is None else summed[1], summed[0] if ctx.has_bias else None, None, None


def _wide(x: Tensor) -> Tensor:
    """Return values in the precision of their sums: at least float32."""
    return x if x.dtype == torch.float64 else x.float()


def _all_but_channels(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]


def _spread(values: Tensor, x: Tensor) -> Tensor:
    """Return values of the channels, (C,), in a shape that broadcasts to x."""
    return values.view(-1, *[1] * (x.dim() - 2))
