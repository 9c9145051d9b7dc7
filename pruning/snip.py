"""SNIP (Lee et al. 2019, equation 6): weights to which the loss is least sensitive go."""

from __future__ import annotations

from pruning.scoring import Scores, Scoring


def snip(scoring: Scoring, *, score_per_batch: bool = False) -> Scores:
    """Return s = |w ⊙ ∂L/∂w|, where L is the mean loss of all scoring examples.

    Each batch is normalized by its own statistics (train mode). The paper divides by the sum of all scores, which
    changes no ranking. score_per_batch: the form of the OpenLTH fork, Σ_b (n_b / n) |w ⊙ ∂L_b/∂w|, the absolute value
    before the sum over batches.
    """
    if score_per_batch:
        return scoring.mean_over_batches(
            lambda gradient: {name: (weight * gradient[name]).abs() for name, weight in scoring.weights.items()}
        )
    gradient = scoring.gradient()
    return {name: (weight * gradient[name]).abs() for name, weight in scoring.weights.items()}
