"""`randomly_prune`: permute the mask of a level and train it (OpenLTH's randomly_prune)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from branches.desc import BranchDesc, BranchHparams, mask_of
from branches.lottery.lottery import LevelBranch, Lottery
from branches.named.branch import last_state
from foundations.description.desc import RunRef, StateOf
from foundations.description.hparams import Hparams, hparam
from pruning.hparams import PruningHparams


@dataclass(frozen=True, kw_only=True)
class RandomlyPruneFlags(Hparams):
    """Randomization of a level's mask, and the weights that it is trained with."""

    randomize: str = hparam("layerwise", choices=("layerwise", "global", "even", "identity"))
    """Permute the mask within each layer, over all layers together, or not at all (identity). With even, draw a new one
    that has the level's density in each layer."""
    start_at: str = hparam("rewind", choices=("rewind", "init", "end"))
    """Train the weights of the rewinding step from there, the initial ones, or the level's last ones from step 0."""
    branch_seed: int | None = hparam(None)
    """Pins the permutation; by default --seed does, or each replicate has its own."""
    layers_to_ignore: str | None = hparam(None, unordered=True)
    """Tensors that are kept whole after the permutation, separated by commas, such as fc.weight."""


def randomly_prune(lottery: Lottery, level: RunRef, flags: RandomlyPruneFlags) -> BranchDesc:
    """Permute a level's mask and train it (OpenLTH's randomly_prune)."""
    states = {
        "rewind": (lottery.rewound, lottery.branch),
        "init": (StateOf(RunRef(lottery.main), lottery.main.start), BranchHparams()),
        "end": (last_state(level), lottery.branch),
    }
    state, branch = states[flags.start_at]
    redrawn = _even(level) if flags.randomize == "even" else None
    return BranchDesc(
        main=lottery.main,
        pruning=redrawn,
        scored=None if redrawn is None else state,
        mask=mask_of(level) if redrawn is None else None,
        techniques=lottery.main.techniques,
        state=state,
        branch=replace(
            branch,
            start_step=branch.start_step if flags.start_at == "rewind" else "0it",
            randomize_layerwise=flags.randomize == "layerwise",
            randomize_globally=flags.randomize == "global",
            layers_to_ignore=flags.layers_to_ignore,
            seed=lottery.hparams.seed if flags.branch_seed is None else flags.branch_seed,
        ),
    )


def _even(level: RunRef) -> PruningHparams:
    """Return the pruning that spreads a level's density evenly over the layers, at random."""
    pruning = level.desc.pruning if isinstance(level.desc, BranchDesc) else None
    fraction = 0.0 if pruning is None else pruning.level
    return PruningHparams.of({"strategy": "random", "allocation": "uniform", "prune_fraction": fraction})


RANDOMLY_PRUNE = LevelBranch(spelling="randomly_prune", describe=randomly_prune, flags=RandomlyPruneFlags)
