"""FORCE (de Jorge et al. 2021, section 3): iterative SNIP in which pruned weights may return."""

from __future__ import annotations

from pruning.scoring import Scores, Scoring


def force(scoring: Scoring, *, score_per_batch: bool = False) -> Scores:
    """Return s = |w ⊙ ∂L/∂w̄| at w̄ = m ⊙ w: with the dense weight, and the gradient of the masked network.

    So a pruned weight has a score and competes with the kept ones for the next mask; with one iteration this is SNIP.
    score_per_batch: as in SNIP.
    """
    dense = scoring.dense_weights
    if score_per_batch:
        return scoring.mean_over_batches(
            lambda gradient: {name: (weight * gradient[name]).abs() for name, weight in dense.items()}
        )
    gradient = scoring.gradient()
    return {name: (weight * gradient[name]).abs() for name, weight in dense.items()}
