"""GRASP-It (de Jorge et al. 2021): weights with the smallest gradients are pruned, in several iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.hparams import BatchesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def grasp_it(scoring: Scoring, _: BatchesHparams) -> Scores:
    """Return s = g² of the kept weights and 0 of the others, g = ∂L/∂w̄ of the masked network: not a product with w.

    Since pruned weights take no part, the gradient that is preserved is that of the kept ones.
    """
    gradient = scoring.gradient()
    kept = {name: tensor.to(gradient[name].device) for name, tensor in scoring.mask.items()}
    return {name: value.square() * kept[name] for name, value in gradient.items()}


GRASP_IT = Method(
    spelling="grasp_itN",
    known_as=("iterative_grasp", "iter_grasp"),
    pattern=f"grasp_it{EXAMPLES_PER_CLASS}",
    examples=("grasp_it10",),
    paper="de Jorge et al. 2021, Progressive Skeletonization: Trimming more fat from a network at initialization",
    passes="in each iteration, one forward and backward pass over the examples",
    tested_against="naver/force",
    differences=(
        "Scores are the published ones. Counts are exact, and examples are N of each class, the same in every "
        "iteration; --rounding=force, --score_examples=redrawn and --score_batches_equally for the published ones."
    ),
    hparams=BatchesHparams,
    score=grasp_it,
)
