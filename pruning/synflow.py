"""SynFlow (Tanaka et al. 2020, equation 2): weights that carry the least synaptic flow go; no data needed."""

from __future__ import annotations

import torch
from torch import nn

from pruning.scoring import Scores, Scoring


@torch.no_grad()
def prepare(network: nn.Module, synflow_means: str = "absolute") -> None:
    """Make every parameter and buffer of `network` absolute.

    So no path through the weights counts against another, at any step of training. synflow_means is about the running
    means that batchnorm subtracts: 'absolute', as Synaptic-Flow does; 'stored' leaves them alone, as the OpenLTH fork
    does; 'added' turns the absolute means into something added, so that nothing at all is subtracted. At the start of
    training they are zero and all three are the same.
    """
    for tensor in network.parameters():
        tensor.abs_()
    means = {id(module.running_mean) for module in network.modules() if hasattr(module, "running_mean")}
    for buffer in network.buffers():
        if not buffer.is_floating_point():
            continue
        if id(buffer) not in means:
            buffer.abs_()
        elif synflow_means != "stored":
            buffer.abs_()
            if synflow_means == "added":
                buffer.neg_()


def synflow(scoring: Scoring) -> Scores:
    """Return s = |w ⊙ ∂R/∂w|, R = 1ᵀ f(1; |θ|): the sum of the outputs for one example of all ones.

    In eval mode and in float64: R grows exponentially with depth, and leaves float32 at ResNet-56 (4e70).
    """
    flow = scoring.gradient_of(scoring.network(scoring.ones()).sum())
    return {name: flow[name].mul_(weight.detach()).abs_() for name, weight in scoring.weights.items()}
