"""Label smoothing (Szegedy et al. 2016), in the form of ToST or of PyTorch: in training, and in reports if asked for.

The loss of an example of class y among C is the sum over classes of -t_c log p_c, where the targets t_c are

    others    1 - alpha for y, and alpha / (C - 1) for each other class (ToST)
    all       1 - alpha + alpha / C for y, and alpha / C for each other class (PyTorch, and Szegedy et al.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams

if TYPE_CHECKING:
    from torch import Tensor

    from training.hparams import TrainingHparams


@dataclass(frozen=True, kw_only=True)
class SmoothingHparams(TechniqueHparams):
    """The strength of label smoothing, and the losses that use it."""

    smoothing_alpha: float = hparam(0.1, above=0, below=1)
    """The share of the target that is spread over other classes."""
    smoothing_over: str = hparam("others", choices=("others", "all"))
    """Spread it over the other classes (others, as ToST does) or over all (all, as --label_smoothing does)."""
    smoothing_reported: bool = hparam(False)
    """Smooth the losses that are reported of test and held out examples, too."""

    def check_with(self, training: TrainingHparams) -> None:
        """Refuse to smooth labels twice, or mixed ones."""
        if training.label_smoothing:
            raise UsageError("both smooth the labels; give one of them.", "label_smoothing", "technique")
        if training.mixes:
            name = "mixup" if training.mixup else "cutmix"
            raise UsageError("smoothing takes labels that are not mixed; use --label_smoothing.", name, "technique")


def smoothed_losses(logits: Tensor, labels: Tensor, alpha: float, over: str = "others") -> Tensor:
    """Return the cross-entropy of each example with smoothed labels, float (B,).

    logits: float (B, classes), of two classes or more. labels: int64 (B,). alpha, over: as above.
    """
    import torch

    surprise = -torch.log_softmax(logits, dim=1)
    own, total, classes = surprise.gather(1, labels[:, None])[:, 0], surprise.sum(1), logits.shape[1]
    if over == "others":
        return (1 - alpha) * own + alpha / (classes - 1) * (total - own)
    return (1 - alpha) * own + alpha / classes * total


class Smoothing(Hooks[SmoothingHparams]):
    """Smooth the labels."""

    def loss(self, value: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch with smoothed labels."""
        losses = self._losses(logits, labels)
        return losses.mean() if labels.dim() == 1 else losses.sum() / (labels >= 0).sum().clamp(min=1)

    def reported_loss(self, total: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over the batch with smoothed labels, if requested."""
        return self._losses(logits, labels).sum() if self.hparams.smoothing_reported else total

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each example or token, 0 where none counts."""
        logits, labels = logits.flatten(0, -2), labels.flatten()
        losses = smoothed_losses(logits, labels.clamp(min=0), self.hparams.smoothing_alpha, self.hparams.smoothing_over)
        return losses * (labels >= 0)


SMOOTHING = Technique(
    spelling="smoothing",
    known_as=("ls",),
    summary="smooth the labels, over the other classes as ToST does or over all",
    paper="Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision; Jaiswal et al. 2022 (ToST)",
    differences="Over the other classes, as ToST does, or over all; --smoothing_reported for ToST's reported losses.",
    hparams=SmoothingHparams,
    hooks=Smoothing,
    needs_classes=True,
    takes_shards=True,
)
