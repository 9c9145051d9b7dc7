"""PHEW (Patil & Dovrolis 2021, section 4): random walks from input to output, biased to heavy weights, are kept.

A walk steps from unit i of a layer's input to a weight w with probability |w| / Σ |w'| over the weights that leave i;
backwards, over those that enter. Walks alternate: one forward from an input unit, one backward from an output unit,
each of them in turn. Where several layers read a value (a block and its projection shortcut), each is as likely;
shortcuts without weights are not taken.

A walk knows nothing of the others, so thousands are walked at once, layer by layer through the graph of the network.
Here the published code differs: it walks one at a time, decides about a projection shortcut one layer too early on its
way forward (which disconnects the path), and stops up to a walk beyond the number that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.hparams import hparam
from pruning.hparams import PruningHparams
from pruning.method import Method

if TYPE_CHECKING:
    from pruning.mask import Mask
    from pruning.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class PhewHparams(PruningHparams):
    """How a network is pruned by PHEW."""

    phew_kernels: bool = hparam(False)
    """Keep the whole kernel of every pair of channels that a walk of PHEW passes."""


def phew(scoring: Scoring, keep: int, hparams: PhewHparams) -> Mask:
    """Return the mask of the weights on random walks: exactly `keep` of them, those of the scoring's mask among them.

    phew_kernels: a walk keeps the whole kernel of each pair of channels that it passes (kernel-conserved PHEW).
    """
    from foundations.random_streams import generator
    from pruning.graph import trace
    from pruning.walked_mask import mask_from_walks
    from pruning.walks import Walks

    assert scoring.input_shape is not None
    graph = trace(scoring.network, scoring.input_shape)
    weights = {name: weight.cpu() for name, weight in scoring.dense_weights.items()}
    walks = Walks(graph, weights, hparams.phew_kernels, generator("phew walks", scoring.seed))
    return mask_from_walks(walks, graph, weights, scoring.mask, keep)


PHEW = Method(
    spelling="phew",
    paper="Patil & Dovrolis 2021, PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well",
    hparams=PhewHparams,
    build_mask=phew,
    keeps="its random walks",
    mode="eval",
    needs_input_shape=True,
    depends_on_mask=False,
    stochastic=True,
    can_regrow=True,
)
