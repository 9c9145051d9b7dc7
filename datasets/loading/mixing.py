"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as torchvision's `transforms.v2` defines them.

Each example of a batch is mixed with the one before it; the first with the last. One share for the batch is drawn from
Beta(alpha, alpha): mixup takes this share of the example itself and the rest of the other, and cutmix pastes a box of
the other. Targets become shares of the classes. With both, each batch takes one of them, with equal chance. Random
numbers are drawn for a whole epoch, so that batches do not depend on where in it training starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from foundations.random_streams import generator, global_generator_from

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Mix:
    """The mixture of one batch."""

    share: float
    """The share of each example itself; the other has the rest."""
    box: tuple[int, int, int, int] | None = None
    """Of cutmix: left, top, right, bottom of the part that the other example covers."""

    def images(self, own: Tensor, others: Tensor) -> Tensor:
        """Return mixed images, float (B, C, H, W)."""
        if self.box is None:
            return others.mul(1 - self.share).add_(own.mul(self.share))
        left, top, right, bottom = self.box
        mixed = own.clone()
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed

    def targets(self, own: Tensor, others: Tensor, classes: int) -> Tensor:
        """Return the shares of the classes, float (B, classes), of mixed examples with labels int64 (B,)."""
        first, second = (F.one_hot(labels, classes).float() for labels in (own, others))
        return second.mul_(1 - self.share).add_(first.mul_(self.share))


@dataclass(frozen=True)
class Mixing:
    """The mixtures of training batches. One of `mixup` and `cutmix` is above 0."""

    mixup: float
    """The alpha of mixup; 0 for none."""
    cutmix: float
    """The alpha of cutmix; 0 for none."""
    classes: int
    """The outputs of the network."""

    def drawn(self, batches: int, size: tuple[int, int], key: int | str, epoch: int) -> list[Mix]:
        """Draw the mixtures of the batches of an epoch. size: height and width of the images."""
        stream = generator("mixing", key, epoch)
        takes_cutmix = torch.rand(batches, generator=stream) < 0.5
        if not (self.mixup and self.cutmix):
            takes_cutmix[:] = self.cutmix > 0
        middles = torch.rand(batches, 2, dtype=torch.float64, generator=stream)
        alphas = torch.where(takes_cutmix, self.cutmix or 1.0, self.mixup or 1.0).double()
        with global_generator_from("mixing shares", key, epoch):
            shares = torch.distributions.Beta(alphas, alphas).sample().tolist()
        return [
            _cutmix(share, size, *middle) if cuts else Mix(share)
            for share, cuts, middle in zip(shares, takes_cutmix.tolist(), middles.tolist(), strict=True)
        ]

    def slices(self, whole: Sequence[slice], own: Sequence[slice]) -> list[slice]:
        """Return the slices of an epoch that a process needs for its own slices of whole batches, in order.

        After an own slice that is part of a batch comes the one example before it, which its first one is mixed with.
        """
        return [each for batch, part in zip(whole, own, strict=True) for each in _with_neighbour(batch, part)]

    def mixed(
        self, examples: Iterator[Batch], whole: Sequence[slice], own: Sequence[slice], mixes: Sequence[Mix]
    ) -> Iterator[Batch]:
        """Yield mixed batches. examples: those of `slices`, in order. mixes: one for each batch."""
        for batch, part, mix in zip(whole, own, mixes, strict=True):
            images, labels = next(examples)
            last = (images, labels) if len(_with_neighbour(batch, part)) == 1 else next(examples)
            others, other_labels = (
                torch.cat([others[-1:], mine[:-1]]) for others, mine in zip(last, (images, labels), strict=True)
            )
            targets = mix.targets(labels, other_labels, self.classes)
            yield mix.images(images, others.contiguous(memory_format=_format_of(images))), targets


def _with_neighbour(batch: slice, own: slice) -> list[slice]:
    if own in (batch, slice(own.start, own.start)):
        return [own]
    before = own.start - 1 if own.start > batch.start else batch.stop - 1
    return [own, slice(before, before + 1)]


def _format_of(images: Tensor) -> torch.memory_format:
    is_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if is_last else torch.contiguous_format


def _cutmix(share: float, size: tuple[int, int], across: float, down: float) -> Mix:
    """Return the mixture with a box of the area 1 - share around a point, cut off at the edges.

    across, down: in [0, 1), of the point.
    """
    height, width = size
    x, y, half = int(across * width), int(down * height), 0.5 * (1.0 - share) ** 0.5
    half_width, half_height = int(half * width), int(half * height)
    left, right = max(x - half_width, 0), min(x + half_width, width)
    top, bottom = max(y - half_height, 0), min(y + half_height, height)
    return Mix(1.0 - (right - left) * (bottom - top) / (width * height), (left, top, right, bottom))


def hard_labels(targets: Tensor) -> Tensor:
    """Return labels int64 (...): of mixed targets, float (..., classes), the class with the largest share."""
    return targets.argmax(-1) if targets.is_floating_point() else targets
