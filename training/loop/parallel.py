"""A training step on several processes: each has a slice of the batch, and the gradients of the whole batch.

With n_r of the n examples in process r, and L_r the mean loss over them, the loss of the batch is sum_r n_r / n L_r. So
each process multiplies its loss by n_r / n, its share, and the gradients are summed. A process whose slice is empty
takes one example of zeros with a share of 0, so that all execute the same operations. Where the mean is over tokens
that count, n is known only once it is summed too: then shares are relative to all tokens, and the summed gradients are
divided by the part of them that counts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datasets.loading.batches import Batch, Loader
from models.dropout import Dropout
from platforms.platform import Platform
from training.loop.sync_batchnorm import synchronize


class Parallel(nn.Module):
    """One process's share of training a model: yields its batches, and is called in place of the model."""

    def __init__(self, model: nn.Module, loader: Loader, platform: Platform, *, sync_batchnorm: bool) -> None:
        """Take the model on its device, and the loader of this process's slices.

        sync_batchnorm: whether batch normalization is over the whole batch, as on one process.
        """
        super().__init__()
        self.model, self._loader, self._platform = model, loader, platform
        self._norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._dropouts = [module for module in model.modules() if isinstance(module, Dropout)]
        self._sync = synchronize(self._norms, platform) if sync_batchnorm else None
        self._share, self._whole = 1.0, 1
        self.part = (0, 1)
        """(place of the first example in the whole batch, size of that), of the examples to compute next."""
        self._sums: Tensor | None = None
        self._most: int | None = None

    def align(self) -> None:
        """Copy the state of the primary process's model to every process."""
        mine = list(self.model.state_dict().values())
        _copy(self._platform.agree(lambda: [tensor.cpu() for tensor in mine]), mine)

    def align_buffers(self) -> None:
        """Copy the primary process's buffers to every process, such as running statistics of part of each batch."""
        mine = list(self.model.buffers())
        _copy(self._platform.agree(lambda: [buffer.cpu() for buffer in mine]), mine)

    def train_batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield this process's slices; in place of an empty one, an example of zeros that does not count."""
        rank, count = self._platform.rank, self._platform.world_size
        for number, (inputs, targets) in enumerate(self._loader.train_batches(epoch, first), first):
            self._whole = whole = self._loader.batch_size_of(number)
            self._share, self.part = len(targets) / whole, (whole * rank // count, whole)
            if len(targets):
                yield inputs, targets
            else:
                yield inputs.new_zeros((1, *inputs.shape[1:])), targets.new_zeros((1, *targets.shape[1:]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs for this process's inputs, in training mode."""
        with self._as_part():
            return self.model(inputs)  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def _as_part(self) -> Iterator[None]:
        """Inside the block, layers over the whole batch know their process's part of it."""
        counts, sync = self._share > 0, self._sync
        for dropout in self._dropouts:
            dropout.part = self.part
        if sync is None and not counts:
            for norm in self._norms:
                norm.eval()
        with nullcontext() if sync is None else sync.over_processes(counts=counts):
            yield
        for norm in self._norms:
            norm.train()
        for dropout in self._dropouts:
            dropout.part = None

    def weighted(self, loss: Tensor, sums: Tensor, of_each: int | None = None) -> Tensor:
        """Return the loss to differentiate.

        loss: the mean over this process's slice, or a part of it. sums: float (k,), which `sum_gradients` sums over all
        parts and processes too; the last one is the number that the mean is over. of_each: the largest such number of
        one example; None if each example counts once.
        """
        sums = sums if self._share > 0 else torch.zeros_like(sums)
        self._sums = sums if self._sums is None else self._sums + sums
        self._most = None if of_each is None else of_each * self._whole
        return loss * (self._share if self._most is None else sums[-1].to(loss.dtype) / self._most)

    @torch.no_grad()
    def sum_gradients(self, others: Sequence[Tensor] = ()) -> Tensor:
        """Sum the gradients over the processes; return the sums, (k,), of the arguments of `weighted`.

        others: parameters besides those of the model.
        """
        assert self._sums is not None, "the loss comes first"
        sums, self._sums = self._sums.float(), None
        found = [p.grad for p in (*self.model.parameters(), *others) if p.grad is not None]
        bucket = torch.cat([sums, *(gradient.reshape(-1) for gradient in found)])
        self._platform.sum_(bucket)
        if self._most is not None:
            bucket[len(sums) :] *= self._most / bucket[len(sums) - 1].clamp(min=1)
        parts = torch.split(bucket, [len(sums), *(gradient.numel() for gradient in found)])
        torch._foreach_copy_(found, [part.view_as(own) for part, own in zip(parts[1:], found, strict=True)])
        return parts[0]


def _copy(tensors: list[Tensor], to: list[Tensor]) -> None:
    for tensor, own in zip(tensors, to, strict=True):
        own.copy_(tensor)
