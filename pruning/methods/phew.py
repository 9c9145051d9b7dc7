"""PHEW (Patil & Dovrolis 2021, section 4): random walks from input to output, biased to heavy weights, are kept.

A walk steps from unit i of a layer's input to a weight w with probability |w| / Σ |w'| over the weights that leave i;
backwards, over those that enter. Walks alternate: one forward from an input unit, one backward from an output unit,
each of them in turn. Where several layers read a value (a block and its projection shortcut), each is as likely;
shortcuts without weights are not taken.

The ablations of the published code are options: other probabilities (Uniform_PHEW, Inverse_PHEW, PHEW2 are
phew_bias=uniform, inverse, squared), and walks that pass pairs of channels and leave 1x1 convolutions whole
(Kernel_PHEW is phew_kernels and phew_fill_1x1).

Walks are independent, so thousands are walked at once, layer by layer through the graph of the network. The published
code differs: it walks one at a time, decides about a projection shortcut one layer too early on its way forward (which
disconnects the path), and stops up to a walk beyond the requested number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foundations.description.hparams import hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams
from pruning.method import Method

if TYPE_CHECKING:
    from pruning.masks.mask import Mask
    from pruning.paths.walks import Preference
    from pruning.scoring.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class PhewHparams(PruningHparams):
    """Pruning of a network by PHEW."""

    phew_kernels: bool = hparam(False)
    """Keep the whole kernel of every pair of channels that a walk of PHEW passes."""
    phew_bias: str = hparam("magnitude", choices=("magnitude", "uniform", "inverse", "squared"))
    """The weights that PHEW's walks prefer: heavy (magnitude), heavy even more (squared), light (inverse), or none
    (uniform)."""
    phew_fill_1x1: bool = hparam(False)
    """Keep all weights of 1x1 convolutions from the start, and let no walk of PHEW take a shortcut that consists of
    them alone."""


def phew(scoring: Scoring, keep: int, hparams: PhewHparams) -> Mask:
    """Return the mask of the weights on random walks: exactly `keep` of them, including the scoring's mask.

    phew_kernels: a walk keeps the whole kernel of each pair of channels that it passes (kernel-conserved PHEW).
    phew_bias: see `_preferences`. phew_fill_1x1: 1x1 convolutions are kept whole.

    Raises: UsageError if the 1x1 convolutions to fill hold more than `keep` weights, if the network takes
    several inputs or tokens, or if its units cannot be followed.
    """
    from foundations.random_streams import generator
    from pruning.paths.graph import trace
    from pruning.paths.walked_mask import mask_from_walks
    from pruning.paths.walks import Walks
    from pruning.scoring.scoring_network import CannotRun, has_embeddings

    if scoring.input_shape is None:
        raise UsageError("phew walks from one input, and this network takes several.", "strategy")
    try:
        graph = trace(scoring.network, scoring.input_shape)
    except CannotRun as error:
        if has_embeddings(scoring.network):
            raise UsageError("phew walks from inputs of numbers, and this network takes tokens.", "strategy") from error
        raise
    weights = {name: weight.cpu() for name, weight in scoring.dense_weights.items()}
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise UsageError(f"the weights of '{name}' are not all finite: the network was diverging.")
    are_1x1 = [name for name, weight in weights.items() if weight.dim() > 2 and weight[0, 0].numel() == 1]
    filled = are_1x1 if hparams.phew_fill_1x1 else []
    mask = scoring.mask.with_tensors({name: part | (name in filled) for name, part in scoring.mask.items()})
    if filled and mask.kept > keep:
        raise UsageError(
            f"with the 1x1 convolutions, {mask.kept} weights are kept; the level leaves {keep}.", "phew_fill_1x1"
        )
    of_weights, of_pairs = _preferences(hparams.phew_bias)
    walks = Walks(
        graph,
        weights,
        hparams.phew_kernels,
        # Extending a mask takes other walks than those that it was built from, which would add nothing.
        generator("phew walks", scoring.seed, *([scoring.mask.kept] if scoring.mask.kept else [])),
        of_weights=of_weights,
        of_pairs=of_pairs,
        unweighted=filled,
    )
    return mask_from_walks(walks, graph, {name: of_weights(weight) for name, weight in weights.items()}, mask, keep)


def _preferences(bias: str) -> tuple[Preference, Preference | None]:
    """Return the preferences within a kernel (replaces |w|) and between kernels (replaces Σ |w|; None: their sum).

    magnitude: |w|. squared: w^2. uniform: 1. inverse: 1 / (|w| + 1e-5), and 1 / Σ |w| between kernels.
    """
    return {
        "magnitude": (lambda w: w.abs(), None),
        "squared": (lambda w: w.double().square(), None),
        "uniform": (lambda w: w.new_ones(w.shape), None),
        "inverse": (lambda w: 1 / (w.abs() + 1e-5), lambda w: 1 / w.abs().double().sum(1).clamp_min(1e-300)),
    }[bias]


PHEW = Method(
    spelling="phew",
    known_as=("path_weighted_walks",),
    paper="Patil & Dovrolis 2021, PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well",
    passes="one forward pass of one example, for the graph of the network; then random walks",
    tested_against="ShreyasMalakarjunPatil/PHEW",
    differences=(
        "Masks agree with published ones in distribution: densities, paths and units of layers. Counts are exact, and "
        "a walk decides about a shortcut at its block, where the published code decides one layer too early."
    ),
    hparams=PhewHparams,
    build_mask=phew,
    keeps="its random walks",
    mode="eval",
    needs_input_shape=True,
    depends_on_mask=False,
    stochastic=True,
    can_regrow=True,
    extension_version=2,
)
