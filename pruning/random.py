"""Random pruning: every weight is equally likely to go."""

from __future__ import annotations

import torch

from foundations.random_streams import generator
from pruning.scoring import Scores, Scoring


def random(scoring: Scoring) -> Scores:
    """Return s ~ U(0, 1), a stream for each tensor, the same in every iteration, of 53 bits (so without ties)."""
    return {
        name: torch.rand(weight.shape, generator=generator("random scores", scoring.seed, name), dtype=torch.float64)
        for name, weight in scoring.weights.items()
    }
