"""GradInit as a technique: learn a scale for each parameter tensor before training. ToST calls it LRsI.

`training.gradinit` has the algorithm. If training starts from a mask, pruned weights count in the gradients like the
others; they stay 0, since a scale does not move them.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Self

from foundations.description.hparams import hparam
from foundations.description.step import Step
from foundations.errors import UsageError
from training.technique import Hooks, Technique, TechniqueHparams


@dataclass(frozen=True, kw_only=True)
class GradInitHparams(TechniqueHparams):
    """The first step that the scales are learnt for, and how they are learnt."""

    gradinit_alg: str = hparam("sgd", choices=("sgd", "adam"))
    """The optimizer whose first step is meant: sgd, or adam (which moves by the signs of the gradient)."""
    gradinit_eta: float = hparam(0.1, above=0)
    """The length of that step."""
    gradinit_gamma: float | None = hparam(None, at_least=0)
    """The bound on the norm of the gradient, l2 for sgd and l1 for adam; by default none."""
    gradinit_normalize_grad: bool = hparam(False)
    """Divide the gradient by its norm in the step of sgd."""
    gradinit_lr: float = hparam(1e-3, above=0)
    """The learning rate of the scales."""
    gradinit_min_scale: float = hparam(0.01, at_least=0)
    """The least scale of weights; that of biases is 0."""
    gradinit_iters: int = hparam(390, at_least=1)
    """Iterations."""
    gradinit_grad_clip: float = hparam(1.0, at_least=0)
    """The bound on the gradient of each scale; 0 for none."""
    gradinit_batch_no_overlap: bool = hparam(False)
    """Take the objective on a batch that shares nothing with that of the gradient, in place of half of it."""
    gradinit_before_mask: bool = hparam(False)
    """Learn the scales of the dense network, before the mask that training starts from is put on it."""

    @property
    def uses_seed(self) -> bool:
        """Whether the technique draws random numbers: it does, for the order of the batches."""
        return True

    def for_training(self, end: Step, *, has_mask: bool) -> Self:
        """Return them as they are. Raises: UsageError for `gradinit_before_mask` without a mask."""
        if self.gradinit_before_mask and not has_mask:
            raise UsageError("the training starts from no mask; leave it out.", "gradinit_before_mask")
        return self

    def simplified(self) -> Self:
        """Reset fields that cannot change the result: the normalization, which adam's step does not have."""
        return self.replaced({"gradinit_normalize_grad": False}) if self.gradinit_alg == "adam" else self


class GradInit(Hooks[GradInitHparams]):
    """Scale the parameters before the first step."""

    def before_mask(self) -> None:
        """Scale the dense network, if requested."""
        if self.hparams.gradinit_before_mask:
            self._scale()

    def prepare(self) -> None:
        """Scale the network as it is trained."""
        if not self.hparams.gradinit_before_mask:
            self._scale()

    def _scale(self) -> None:
        from training.gradinit import gradinit

        options = self.hparams
        with contextlib.closing(self.training.batches("gradinit")) as batches:
            gradinit(
                self.training.model,
                batches,
                algorithm=options.gradinit_alg,
                eta=options.gradinit_eta,
                gamma=math.inf if options.gradinit_gamma is None else options.gradinit_gamma,
                normalize_grad=options.gradinit_normalize_grad,
                lr=options.gradinit_lr,
                min_scale=options.gradinit_min_scale,
                iterations=options.gradinit_iters,
                grad_clip=options.gradinit_grad_clip,
                overlap=not options.gradinit_batch_no_overlap,
                loss=self.training.mean_loss,
            )


GRADINIT = Technique(
    spelling="gradinit",
    known_as=("lrsi", "layer_wise_rescaled_initialization"),
    summary="learn a scale for each parameter tensor before training (ToST's LRsI)",
    paper="Zhu et al. 2021, GradInit: Learning to Initialize Neural Networks for Stable and Efficient Training",
    tested_against="VITA-Group/ToST",
    differences="ToST's use of it (LRsI), on the masked network; --gradinit_before_mask for the dense one.",
    hparams=GradInitHparams,
    hooks=GradInit,
)
