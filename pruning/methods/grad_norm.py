"""Pruning by the absolute gradient, a baseline of criteria with second derivatives (Gollini et al. 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.method import EXAMPLES_PER_CLASS, Method
from pruning.methods.fisher import HeldBatchnormHparams, hold_batchnorm

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def grad_norm(scoring: Scoring, hparams: HeldBatchnormHparams) -> Scores:
    """Return s = |∂L/∂w|, where L is the mean loss of all scoring examples. Batchnorm is held as in Fisher pruning."""
    hold_batchnorm(scoring, hparams)
    return {name: gradient.abs() for name, gradient in scoring.gradient().items()}


GRAD_NORM = Method(
    spelling="grad_normN",
    pattern=f"grad_norm{EXAMPLES_PER_CLASS}",
    examples=("grad_norm10",),
    paper="Gollini et al. 2026, Scalable_Second_Order_PaI",
    passes="one forward pass for batchnorm, and one forward and backward pass over the examples",
    tested_against="Gollini/Scalable_Second_Order_PaI",
    differences="In its code, batchnorm has its stored statistics (--score_in_eval_mode).",
    hparams=HeldBatchnormHparams,
    score=grad_norm,
)
