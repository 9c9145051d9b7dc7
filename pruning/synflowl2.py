"""SynFlow-L2 (Patil & Dovrolis 2021, section 3): SynFlow on squared weights; weights on few heavy paths go."""

from __future__ import annotations

import torch
from torch import nn

from pruning import synflow
from pruning.scoring import Scores, Scoring


@torch.no_grad()
def prepare(network: nn.Module, synflow_means: str = "absolute") -> None:
    """Square every parameter of `network`, and make its buffers absolute as SynFlow does."""
    synflow.prepare(network, synflow_means)
    for parameter in network.parameters():
        parameter.square_()


def synflowl2(scoring: Scoring, *, synflowl2_as_published: bool = False) -> Scores:
    """Return s = w² ⊙ ∂R/∂w², R = 1ᵀ f(1; θ²): the share of the path kernel's trace that runs through each weight.

    In eval mode and float64, like SynFlow. synflowl2_as_published: |w| ⊙ ∂R/∂w², which the code of the PHEW repository
    computes and which is not conserved from layer to layer.
    """
    flow = scoring.gradient_of(scoring.network(scoring.ones()).sum())
    return {
        name: flow[name].mul_(squared.detach().sqrt() if synflowl2_as_published else squared.detach())
        for name, squared in scoring.weights.items()
    }
