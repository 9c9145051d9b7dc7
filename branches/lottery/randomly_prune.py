"""`randomly_prune`: permute the mask of a level and train it (OpenLTH's randomly_prune)."""

from __future__ import annotations

from dataclasses import dataclass

from branches.desc import BranchDesc, BranchHparams, mask_of, techniques_in
from branches.named.branch import Branch, Level, last_state
from foundations.description.desc import RunRef, StateOf
from foundations.description.hparams import Hparams, hparam
from foundations.errors import UsageError
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class RandomlyPruneFlags(Hparams):
    """Randomization of a level's mask, and the weights that it is trained with."""

    randomize: str = hparam("layerwise", choices=("layerwise", "global", "even", "identity"))
    """Permute the mask within each layer, over all layers together, or not at all (identity). With even, draw a new one
    that has the level's density in each layer."""
    start_at: str = hparam("rewind", choices=("rewind", "init", "end"))
    """Train the weights of the rewinding step from there, the initial ones, or the level's last ones from step 0."""
    seed: int | None = hparam(None)
    """Pins the permutation; by default that of the lottery does, or each replicate has its own."""
    layers_to_ignore: str | None = hparam(None, unordered=True)
    """Tensors that are kept whole after the permutation, separated by commas, such as fc.weight."""


def randomly_prune(parent: RunRef, _pruning: PruningHparams, flags: RandomlyPruneFlags) -> BranchDesc:
    """Permute a level's mask and train it (OpenLTH's randomly_prune)."""
    level = Level.of(parent)
    states = {
        "rewind": level.rewound,
        "init": StateOf(RunRef(level.main, level.replicate), level.main.start),
        "end": last_state(level),
    }
    state = states[flags.start_at]
    redrawn = _even(parent) if flags.randomize == "even" else None
    return BranchDesc(
        main=level.main,
        pruning=redrawn,
        scored=None if redrawn is None else state,
        mask=mask_of(level) if redrawn is None else None,
        techniques=techniques_in(level),
        state=state,
        branch=BranchHparams(
            start_step=level.branch.start_step if flags.start_at == "rewind" else "0it",
            randomize_layerwise=flags.randomize == "layerwise",
            randomize_globally=flags.randomize == "global",
            layers_to_ignore=flags.layers_to_ignore,
            seed=flags.seed,
        ),
    )


def _even(parent: RunRef) -> PruningHparams:
    """Return the pruning that spreads a level's density evenly over the layers, at random."""
    pruning = parent.desc.pruning if isinstance(parent.desc, BranchDesc) else None
    if pruning is None and not isinstance(parent, Level):
        raise UsageError("even needs a parent that prunes by itself, since its density is drawn again.", "randomize")
    if pruning is not None and pruning.effective_density is not None:
        raise UsageError("the parent's density is an outcome of its effective density; use layerwise.", "randomize")
    fraction = 0.0 if pruning is None else pruning.level
    return PruningHparams.of({"strategy": "random", "allocation": "uniform", "prune_fraction": fraction})


RANDOMLY_PRUNE = Branch(spelling="randomly_prune", describe=randomly_prune, flags=RandomlyPruneFlags, prunes=False)
