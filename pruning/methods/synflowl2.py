"""SynFlow-L2 (Patil & Dovrolis 2021, section 3): SynFlow on squared weights; those on few heavy paths are pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from pruning.method import Method
from pruning.methods.synflow import SynflowHparams, make_absolute, scores_of_flow

if TYPE_CHECKING:
    from torch import nn

    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class SynflowL2Hparams(SynflowHparams):
    """Pruning of a network by SynFlow-L2."""

    synflowl2_as_published: bool = hparam(False)
    """Score SynFlow-L2 by |w| ∂R/∂w², as its published code does, rather than by w² ∂R/∂w²."""


def make_squared(network: nn.Module, hparams: SynflowL2Hparams) -> None:
    """Square every parameter of `network`, and make its buffers absolute as SynFlow does."""
    make_absolute(network, hparams)
    for parameter in network.parameters():
        parameter.square_()


def synflowl2(scoring: Scoring, hparams: SynflowL2Hparams) -> Scores:
    """Return s = w² ⊙ ∂R/∂w², R = 1ᵀ f(1; θ²): the share of the path kernel's trace that runs through each weight.

    In eval mode and float64, like SynFlow. synflowl2_as_published: |w| ⊙ ∂R/∂w², which the code of the PHEW repository
    computes and which is not conserved from layer to layer.
    """
    if hparams.synflowl2_as_published:
        return scores_of_flow(scoring, lambda squared, flow: squared.sqrt() * flow)
    return scores_of_flow(scoring, lambda squared, flow: squared * flow)


SYNFLOWL2 = Method(
    spelling="synflowl2",
    paper="Patil & Dovrolis 2021, PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well",
    passes="in each iteration, one forward and backward pass of one example",
    tested_against="ShreyasMalakarjunPatil/PHEW",
    differences="The paper's w² ⊙ ∂R/∂w²; the published code has |w| ⊙ ∂R/∂w² (--synflowl2_as_published).",
    hparams=SynflowL2Hparams,
    score=synflowl2,
    transform=make_squared,
    mode="eval",
    float64=True,
    needs_input_shape=True,
)
