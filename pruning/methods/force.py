"""FORCE (de Jorge et al. 2021, section 3): iterative SNIP in which pruned weights may return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pruning.method import EXAMPLES_PER_CLASS, Method
from pruning.methods.snip import SnipHparams, sensitivity

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring


def force(scoring: Scoring, hparams: SnipHparams) -> Scores:
    """Return s = |w ⊙ ∂L/∂w̄| at w̄ = m ⊙ w: with the dense weight, and the gradient of the masked network.

    So a pruned weight has a score and competes with the kept ones for the next mask; with one iteration this is SNIP.
    score_per_batch: as in SNIP.
    """
    return sensitivity(scoring.dense_weights, scoring, hparams)


FORCE = Method(
    spelling="forceN",
    known_as=("iterative_snip", "iter_snip", "foresight_connection_sensitivity"),
    pattern=f"force{EXAMPLES_PER_CLASS}",
    examples=("force10",),
    paper="de Jorge et al. 2021, Progressive Skeletonization: Trimming more fat from a network at initialization",
    passes="in each iteration, one forward and backward pass over the examples",
    tested_against="naver/force",
    differences=(
        "Scores are the published ones. Counts are exact, and examples are N of each class, the same in every "
        "iteration; --rounding=force, --score_examples=redrawn and --score_batches_equally for the published ones."
    ),
    hparams=SnipHparams,
    score=force,
    can_regrow=True,
)
