"""Random pruning: every weight is equally likely to be pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.hparams import PruningHparams
from pruning.method import Method

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def random(scoring: Scoring, _: PruningHparams) -> Scores:
    """Return s ~ U(0, 1), from a stream for each tensor, the same in every iteration, of 53 bits (so without ties)."""
    import torch

    from foundations.random_streams import generator

    return {
        name: torch.rand(weight.shape, generator=generator("random scores", scoring.seed, name), dtype=torch.float64)
        for name, weight in scoring.weights.items()
    }


RANDOM = Method(
    spelling="random",
    known_as=("rand", "random_pruning"),
    paper="no paper: scores drawn uniformly",
    passes="none",
    tested_against="123Bailey123/Pruning",
    differences=(
        "The numbers come from a stream of the run for each tensor, so masks agree with published ones in "
        "distribution only."
    ),
    hparams=PruningHparams,
    score=random,
    depends_on_mask=False,
    stochastic=True,
)
