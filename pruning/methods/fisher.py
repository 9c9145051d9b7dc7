"""Fisher pruning (Theis et al. 2018, equation 8; the diagonal of Optimal Brain Damage, LeCun et al. 1990)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.hparams import ExamplesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def fisher(scoring: Scoring, _: ExamplesHparams) -> Scores:
    """Return s = ½ w² F, F = (1 / n) Σ_i (∂L_i/∂w)²: the diagonal of the empirical Fisher matrix, example by example.

    L_i is the loss of example i. A single example has no batch statistics, so batchnorm runs in eval mode on statistics
    taken beforehand over the scoring examples (their batches averaged) and held constant.
    """
    scoring.calibrate_batchnorm()
    information = scoring.mean_squared_gradient()
    return {name: 0.5 * weight.square() * information[name] for name, weight in scoring.weights.items()}


FISHER = Method(
    spelling="fisherN",
    pattern=f"fisher{EXAMPLES_PER_CLASS}",
    examples=("fisher10",),
    paper="Theis et al. 2018, Faster gaze prediction with dense networks and Fisher pruning",
    passes="one forward pass over the examples, and one forward and backward pass of each example by itself",
    hparams=ExamplesHparams,
    score=fisher,
)
