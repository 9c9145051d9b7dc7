"""`spread_snipN`: SNIP by its typical value over batches, as a plug-in that scores with N examples of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_prune import EXAMPLES_PER_CLASS, ExamplesHparams, Method, hparam

if TYPE_CHECKING:
    from open_prune import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class SpreadSnipHparams(ExamplesHparams):
    """Pruning by SNIP's scores of several batches."""

    spread_power: float = hparam(1.0, above=0)
    """The power p of the mean over batches: 1 is the mean; a larger one gives more weight to the largest scores."""


def spread_snip(scoring: Scoring, hparams: SpreadSnipHparams) -> Scores:
    """Return s = (Σ_b (n_b / n) |w ⊙ ∂L_b/∂w|^p)^(1/p), over batches b of n_b of the n examples."""
    power = hparams.spread_power

    def of_batch(gradient: Scores) -> Scores:
        return {name: (weight * gradient[name]).abs() ** power for name, weight in scoring.weights.items()}

    means = scoring.mean_over_batches(of_batch)
    return {name: mean ** (1 / power) for name, mean in means.items()}


SPREAD_SNIP = Method(
    spelling="spread_snipN",
    pattern=f"spread_snip{EXAMPLES_PER_CLASS}",
    examples=("spread_snip10",),
    paper="an example of a method of your own that scores with examples",
    hparams=SpreadSnipHparams,
    score=spread_snip,
)
