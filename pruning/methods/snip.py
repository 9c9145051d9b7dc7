"""SNIP (Lee et al. 2019, equation 6): weights to which the loss is least sensitive are pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from pruning.hparams import BatchesHparams
from pruning.method import EXAMPLES_PER_CLASS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from pruning.scoring.scoring import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class SnipHparams(BatchesHparams):
    """Pruning of a network by SNIP."""

    score_per_batch: bool = hparam(False)
    """Take the absolute value before the sum over batches, as the OpenLTH fork does."""


def snip(scoring: Scoring, hparams: SnipHparams) -> Scores:
    """Return s = |w ⊙ ∂L/∂w|, where L is the mean loss of all scoring examples.

    Each batch is normalized by its own statistics (train mode). The paper divides by the sum of all scores, which
    changes no ranking. score_per_batch: the form of the OpenLTH fork, Σ_b (n_b / n) |w ⊙ ∂L_b/∂w|.
    """
    return sensitivity(scoring.weights, scoring, hparams)


def sensitivity(weights: Mapping[str, Tensor], scoring: Scoring, hparams: SnipHparams) -> Scores:
    """Return |w ⊙ ∂L/∂w| for any values w of the weights, with the gradient of the scored network."""

    def product(gradient: Scores) -> Scores:
        return {name: (weight * gradient[name]).abs() for name, weight in weights.items()}

    return scoring.mean_over_batches(product) if hparams.score_per_batch else product(scoring.gradient())


SNIP = Method(
    spelling="snipN",
    known_as=("connection_sensitivity", "single_shot"),
    pattern=f"snip{EXAMPLES_PER_CLASS}",
    examples=("snip10",),
    paper="Lee et al. 2019, SNIP: Single-shot Network Pruning based on Connection Sensitivity",
    passes="one forward and backward pass over the examples",
    tested_against="123Bailey123/Pruning, ganguli-lab/Synaptic-Flow, naver/force",
    differences=(
        "The paper's gradient of all examples in train mode. --score_per_batch for the OpenLTH fork, "
        "--score_in_eval_mode and --score_batches_equally for Synaptic-Flow; with --prune_iterations, "
        "--rounding=force and --score_examples=redrawn it is FORCE's iterative SNIP."
    ),
    hparams=SnipHparams,
    score=snip,
)
