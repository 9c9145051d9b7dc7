"""Taylor pruning (TP of ToST, Jaiswal et al. 2022; the first-order saliency of Mozer & Smolensky 1989)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.hparams import ExamplesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def taylor(scoring: Scoring, _: ExamplesHparams) -> Scores:
    """Return s = |w ⊙ Σ_b ∂L_b/∂w|: the first-order change of the loss if the weight is pruned.

    L_b is the mean loss of batch b, and every batch weighs the same whatever its size. With batches of one size this is
    SNIP's score times the number of batches.
    """
    gradient = scoring.sum_over_batches()
    return {name: (weight * gradient[name]).abs() for name, weight in scoring.weights.items()}


TAYLOR = Method(
    spelling="taylorN",
    known_as=("taylor_fo", "first_order", "gradient_times_weight", "weight_times_gradient"),
    pattern=f"taylor{EXAMPLES_PER_CLASS}",
    examples=("taylor10",),
    paper="Jaiswal et al. 2022, Training Your Sparse Neural Network Better with Any Mask",
    passes="one forward and backward pass over the examples",
    tested_against="VITA-Group/ToST",
    differences="Train mode, as ToST's example; batches count alike.",
    hparams=ExamplesHparams,
    score=taylor,
)
