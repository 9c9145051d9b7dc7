"""Fisher pruning (Theis et al. 2018, equation 8; the diagonal of Optimal Brain Damage, LeCun et al. 1990)."""

from __future__ import annotations

from pruning.scoring import Scores, Scoring


def fisher(scoring: Scoring) -> Scores:
    """Return s = ½ w² F, F = (1 / n) Σ_i (∂L_i/∂w)²: the diagonal of the empirical Fisher matrix, example by example.

    L_i is the loss of example i. A single example has no batch statistics, so batchnorm runs in eval mode on statistics
    taken beforehand over the scoring examples (their batches averaged) and held constant.
    """
    scoring.calibrate_batchnorm()
    squares = scoring.mean_over_examples(lambda gradient: {name: g.square() for name, g in gradient.items()})
    return {name: 0.5 * weight.square() * squares[name] for name, weight in scoring.weights.items()}
