"""GraSP (Wang et al. 2020, equation 8): weights go whose removal hurts gradient flow least. And its absolute form."""

from __future__ import annotations

from pruning.scoring import Scores, Scoring

TEMPERATURE = 200.0
"""What the logits are divided by, in the authors' code and in every other."""


def grasp(scoring: Scoring, *, score_per_batch: bool = False) -> Scores:
    """Return s = -w ⊙ Hg; the highest scores go.

    g and H are the gradient and the Hessian of the mean loss of all scoring examples with respect to the prunable
    weights, each batch normalized by its own statistics (train mode), on logits / 200. The authors' code stores these
    scores divided by a positive number, and Synaptic-Flow and the PHEW repository store -s and remove the lowest: the
    same ranking. The authors' optional re-drawing of the linear layers is left to the caller.

    score_per_batch: the form of the OpenLTH fork, -w ⊙ Σ_b (n_b / n) H_b g_b, without products of different batches.
    """
    product = (
        scoring.hessian_gradient_per_batch(TEMPERATURE) if score_per_batch else scoring.hessian_gradient(TEMPERATURE)
    )
    return {name: -weight * product[name] for name, weight in scoring.weights.items()}


def graspabs(scoring: Scoring, *, score_per_batch: bool = False) -> Scores:
    """Return s = |w ⊙ Hg| (Frankle et al. 2021); the lowest scores go. The absolute value comes after all sums."""
    return {name: score.abs() for name, score in grasp(scoring, score_per_batch=score_per_batch).items()}
