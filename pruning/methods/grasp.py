"""GraSP (Wang et al. 2020, equation 8) and its absolute form: weights with least effect on gradient flow are pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from pruning.hparams import BatchesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from pruning.scoring.scoring import Scores, Scoring

TEMPERATURE = 200.0
"""The divisor of the logits, in the authors' code and all others."""


@dataclass(frozen=True, kw_only=True)
class GraspHparams(BatchesHparams):
    """Pruning of a network by GraSP."""

    score_per_batch: bool = hparam(False)
    """Multiply the gradient and the Hessian of the same batch, as the OpenLTH fork does."""


def grasp(scoring: Scoring, hparams: GraspHparams) -> Scores:
    """Return s = -w ⊙ Hg; the highest scores are pruned.

    g and H are the gradient and the Hessian of the mean loss of all scoring examples with respect to the prunable
    weights, each batch normalized by its own statistics (train mode), on logits / 200. The authors' code stores these
    scores divided by a positive number, and Synaptic-Flow and the PHEW repository store -s and prune the lowest: the
    same ranking. The authors' code can also reinitialize the linear layers before scoring; that is left to the caller.

    score_per_batch: the form of the OpenLTH fork, -w ⊙ Σ_b (n_b / n) H_b g_b, without products of different batches.
    """
    hessian_gradient = scoring.hessian_gradient_per_batch if hparams.score_per_batch else scoring.hessian_gradient
    product = hessian_gradient(TEMPERATURE)
    return {name: -weight * product[name] for name, weight in scoring.weights.items()}


def graspabs(scoring: Scoring, hparams: GraspHparams) -> Scores:
    """Return s = |w ⊙ Hg| (Frankle et al. 2021). The absolute value is taken after all sums."""
    return {name: score.abs() for name, score in grasp(scoring, hparams).items()}


GRASP = Method(
    spelling="graspN",
    pattern=f"grasp{EXAMPLES_PER_CLASS}",
    examples=("grasp10",),
    paper="Wang et al. 2020, Picking Winning Tickets Before Training by Preserving Gradient Flow",
    passes="one forward pass over the examples and two backward ones; of several batches, one more of each",
    tested_against="alecwangcq/GraSP, 123Bailey123/Pruning, ganguli-lab/Synaptic-Flow",
    differences=(
        "The highest scores are pruned, as in the paper; the OpenLTH fork prunes the lowest (--prune_lowest) and "
        "multiplies the gradient and Hessian of each batch (--score_per_batch). The authors' code can draw the linear "
        "layers again before scoring; this one does not."
    ),
    hparams=GraspHparams,
    score=grasp,
    prune_direction="highest",
)
GRASPABS = Method(
    spelling="graspabsN",
    pattern=f"graspabs{EXAMPLES_PER_CLASS}",
    examples=("graspabs10",),
    paper="Frankle et al. 2021, Pruning Neural Networks at Initialization: Why Are We Missing the Mark?",
    passes="as GraSP",
    tested_against="123Bailey123/Pruning",
    differences="--score_per_batch for the fork's products of each batch.",
    hparams=GraspHparams,
    score=graspabs,
)
