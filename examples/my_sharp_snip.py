"""`sharp_snipN`: SNIP after a step that increases the loss, as a plug-in with a second forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from open_prune import EXAMPLES_PER_CLASS, ExamplesHparams, Method, hparam

if TYPE_CHECKING:
    from open_prune import Scores, Scoring


@dataclass(frozen=True, kw_only=True)
class SharpSnipHparams(ExamplesHparams):
    """Pruning by SNIP's scores near the weights, where the loss is highest."""

    sharp_radius: float = hparam(0.5, at_least=0)
    """The length of the step, in units of each weight: 0 is SNIP."""


def sharp_snip(scoring: Scoring, hparams: SharpSnipHparams) -> Scores:
    """Return s = |w ⊙ ∂L/∂w'|, taken at w' = w + ρ w² ⊙ g / ‖w ⊙ g‖ with g = ∂L/∂w, on the same batches.

    The step is that of adaptive sharpness-aware minimization (Kwon et al. 2021). Pruned weights stay zero.
    """
    weights = {name: weight.detach() for name, weight in scoring.weights.items()}
    batches = scoring.next_pass()
    gradient = scoring.gradient(batches=batches)
    norm = sum(float((weight * gradient[name]).square().sum()) for name, weight in weights.items()) ** 0.5
    length = hparams.sharp_radius / norm if norm else 0.0
    moved = {name: weight + length * weight.square() * gradient[name] for name, weight in weights.items()}
    there = scoring.gradient(weights=moved, batches=batches)
    return {name: (weight * there[name]).abs() for name, weight in weights.items()}


SHARP_SNIP = Method(
    spelling="sharp_snipN",
    pattern=f"sharp_snip{EXAMPLES_PER_CLASS}",
    examples=("sharp_snip10",),
    paper="an example of a method of your own with a second forward pass",
    hparams=SharpSnipHparams,
    score=sharp_snip,
)
