"""Magnitude pruning (Han et al. 2015): small weights are pruned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.hparams import PruningHparams
from pruning.method import Method

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def magnitude(scoring: Scoring, _: PruningHparams) -> Scores:
    """Return s = |w|."""
    return {name: weight.abs() for name, weight in scoring.weights.items()}


MAGNITUDE = Method(
    spelling="magnitude",
    known_as=("mag", "magnitude_pruning", "l1_norm", "omp", "weight_magnitude"),
    paper="Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks",
    passes="none",
    tested_against="facebookresearch/open_lth, 123Bailey123/Pruning, ganguli-lab/Synaptic-Flow",
    differences="Counts are exact; OpenLTH and its fork prune one weight more, and all ties (--rounding=openlth).",
    hparams=PruningHparams,
    score=magnitude,
    depends_on_mask=False,
)
