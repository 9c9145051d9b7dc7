"""Taylor pruning (TP of ToST, Jaiswal et al. 2022; the first-order saliency of Mozer & Smolensky 1989)."""

from __future__ import annotations

from pruning.scoring import Scores, Scoring


def taylor(scoring: Scoring) -> Scores:
    """Return s = |w ⊙ Σ_b ∂L_b/∂w|: how much the loss changes, to first order, where the weight goes.

    L_b is the mean loss of batch b, and every batch weighs the same whatever its size. With batches of one size this is
    SNIP's score times the number of batches.
    """
    gradient = scoring.sum_over_batches(lambda gradient: gradient)
    return {name: (weight * gradient[name]).abs() for name, weight in scoring.weights.items()}
